"""Networks that recipes call by a name of one word."""
