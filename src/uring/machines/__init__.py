"""Operations with more than one completion: their states as tables, and the objects that execute them."""
