"""Operations with more than one completion: their lives as tables, and the objects that follow them."""
