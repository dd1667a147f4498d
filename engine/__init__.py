"""The machine: Tensor, automatic differentiation, layers, models, text, training, command line.

From the ground up: tensor, autograd; ops; nn, optim; models; text; training; testing; cli. A floor imports only floors
below it. Importing this package loads nothing, so that the command line can settle threads before NumPy starts.
"""

if __name__ == "engine":
    raise ImportError("import this package as handgrad.engine (the checkout itself is the package handgrad)")
