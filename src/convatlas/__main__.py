"""`python -m convatlas` is `convatlas`."""

from convatlas.cli import main

main()
