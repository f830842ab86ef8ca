"""What a claim rests on: classification and image metrics, intervals, and the separation of roles."""
