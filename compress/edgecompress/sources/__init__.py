"""What comes from outside: code, models and archives of users, found and hashed before anything of them is used."""
