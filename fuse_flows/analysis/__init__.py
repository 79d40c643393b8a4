"""Tables, pictures and files made from the candidates of a search."""
