"""Can the labels be trusted? Label error before and after rectification, against rivals, on faces whose truth is known."""
