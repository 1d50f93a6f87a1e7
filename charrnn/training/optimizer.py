"""AdamW by torch's fused kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class AdamW:
    """AdamW (Loshchilov & Hutter 2019), to the bit what ``torch.optim.AdamW(fused=True)`` computes.

    That class's first use imports torch's compiler, which takes as long as torch itself; training starts a second
    sooner without it.

    Args:
        groups: parameters, and their weight decay.
        lr: learning rate; as a tensor, on the parameters' device, it is read at each step, so that a captured step
            follows it.
        betas: decay of the averages of gradients and of squared gradients.
        eps: added to the root of the latter.

    Attributes:
        state: of each parameter ``step`` (), ``exp_avg`` and ``exp_avg_sq``, tensors that stay where they are.
        param_groups: as :class:`torch.amp.GradScaler` reads them.
    """

    #: GradScaler then sets ``grad_scale`` and ``found_inf``, tensors, instead of asking the device whether to step.
    _step_supports_amp_scaling = True

    def __init__(
        self,
        groups: Sequence[tuple[list[Tensor], float]],
        lr: float | Tensor,
        betas: tuple[float, float],
        eps: float = 1e-8,
    ) -> None:
        self.lr, self.betas, self.eps = lr, betas, eps
        self.param_groups: list[dict[str, Any]] = [
            {"params": parameters, "weight_decay": decay} for parameters, decay in groups if parameters
        ]
        self.state: dict[Tensor, dict[str, Tensor]] = {
            parameter: {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            for parameters, _ in groups
            for parameter in parameters
        }

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter by its gradient; nothing at all if GradScaler found an overflow."""
        grad_scale, found_inf = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        for group in self.param_groups:
            parameters = group["params"]
            states = [self.state[parameter] for parameter in parameters]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=self.lr,
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=group["weight_decay"],
                eps=self.eps,
                amsgrad=False,
                maximize=False,
                grad_scale=grad_scale,
                found_inf=found_inf,
            )
            if found_inf is not None:
                torch._foreach_sub_(steps, [found_inf] * len(steps))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.state:
            parameter.grad = None
