"""What a recurrent network should beat: n-grams, a fixed window, convolutions, attention."""
