"""Memory and time of data that comes in and goes out."""
