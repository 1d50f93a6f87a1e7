"""What a recurrent network should beat, and by how much: recurrent models, n-grams, a fixed window, convolutions and
attention on the same text, in one table of ``charrnn compare``.

    python benchmarks/baselines.py [CORPUS ...] [--time-limit 5m] [--text-folder FOLDER]
    python benchmarks/baselines.py --tables   # print the tables of what has been measured

Networks have about a million parameters and the same time each; n-grams take what counting takes. Text is split
contiguously, 80/10/10, and scored on test. Runs lie below ``checkpoints/baselines/``; what is there is kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from quality import HERE, RESULTS, ROOT, charrnn, finish
from report import header, text_file
from table import put, table

JSON = HERE / "results" / "baselines.json"
BEGIN, END = "<!-- python benchmarks/baselines.py --tables -->\n", "<!-- end of the baselines -->\n"
SPLIT = "80,10,10"
CORPORA = {"shakespeare": "tiny Shakespeare", "warpeace": "War and Peace"}
NETWORKS = {
    "rnn": "--cell rnn --num-layers 2 --hidden-size 512 --connections plain",
    "lstm": "--cell lstm --num-layers 2 --hidden-size 256 --connections plain",
    "gru": "--cell gru --num-layers 2 --hidden-size 288 --connections plain",
    "nn": "--model nn --context 12 --hidden-size 1024",
    "tcn": "--model tcn --num-layers 6 --hidden-size 160 --kernel-size 3",
    "transformer": "--model transformer --num-layers 5 --hidden-size 128 --num-heads 4 --context 128",
}
ORDERS = range(1, 21)
#: Nats per character that Karpathy, Johnson & Fei-Fei 2016 have on War and Peace, of an easier split (RESULTS.md).
PAPER = {"lstm": 1.082, "gru": 1.077, "ngram-20": 1.195, "nn": 1.321}


def measure(corpus: str, texts: Path | None, time_limit: str) -> dict[str, Any]:
    """Train what is missing, and compare all."""
    name = f"{corpus}-80"
    if not (ROOT / "corpora" / name).is_dir():
        file = f"{corpus}.txt"
        charrnn("prepare", str(text_file(texts and texts / file, file)), "--name", name, "--split", SPLIT)
    commands = {f"ngram-{order}": f"--model ngram --order {order}" for order in ORDERS}
    commands |= {run: f"{options} --time-limit {time_limit}" for run, options in NETWORKS.items()}
    runs = []
    for run, options in commands.items():
        runs.append(f"baselines/{corpus}-{run}")
        if not (ROOT / "checkpoints" / runs[-1] / "last.safetensors").is_file():
            charrnn("train", name, *options.split(), "--run", runs[-1], "-q")
        elif run in NETWORKS:
            finish(runs[-1])
    compared = json.loads(charrnn("compare", *runs, "--split", "test", "--json"))
    return {"date": header("baselines")["date"], "commands": commands, "compared": compared}


def tables(document: dict[str, Any]) -> str:
    """For each text the models, best first."""
    parts = []
    for corpus, found in document["results"].items():
        lines = []
        for model in found["compared"]["models"]:
            run = Path(model["checkpoint"]).parent.name.removeprefix(f"{corpus}-")
            low, high = model["bits_per_char_interval"]
            paper = PAPER.get(run) if corpus == "warpeace" else None
            lines.append(
                [
                    model["model"],
                    f"{model['nats_per_char']:.4f}",
                    f"{model['bits_per_char']:.4f} ± {(high - low) / 2:.4f}",
                    f"{model['difference']:.4f}",
                    f"{model['parameters']:,}",
                    f"{model['training_seconds']:.0f}",
                    f"{model['characters_per_second']:,.0f}",
                    "" if paper is None else f"{paper:.3f}",
                ]
            )
        head = "model | nats per character | bits | worse by | parameters | trained, s | scored, characters/s | paper"
        parts.append(f"{CORPORA[corpus]}, test:\n\n" + table(head, lines))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="*", choices=[*CORPORA, []], metavar="CORPUS", help="default: all")
    parser.add_argument("--time-limit", default="5m", help="of each network's training")
    parser.add_argument("--text-folder", type=Path, help="where the texts are; default: ../shared/corpora")
    parser.add_argument("--tables", action="store_true", help="only print the tables, from the JSON")
    given = parser.parse_args()
    document = json.loads(JSON.read_text()) if JSON.is_file() else {"results": {}}
    if given.tables:
        print(tables(document), end="")
        return
    for corpus in given.corpora or CORPORA:
        document["results"][corpus] = measure(corpus, given.text_folder, given.time_limit)
        JSON.write_text(json.dumps(document | header("baselines"), indent=1) + "\n", encoding="utf-8")
        put(RESULTS, BEGIN, tables(document), END)


if __name__ == "__main__":
    main()
