"""How findings are said, by what they are about: code -> a template of the values, or a function of them."""
