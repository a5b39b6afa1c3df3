"""Models: built-in ones, those of libraries and of users, their weights, size and what conversion makes of them."""
