"""Operations with more than one completion: tables of their states, and the objects that execute them."""
