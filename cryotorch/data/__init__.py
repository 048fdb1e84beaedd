"""Files to tensors and back: the only place that knows formats (STAR, MRC, atomic models).

May import particles, errors and ops. Bad input is refused here with an ``InputError``; inner loops trust.
"""
