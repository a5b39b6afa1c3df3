SMALLEST: dict[str, str] = {}
LEFT_OUT: dict[str, str] = {}
