"""Networks as people write them, by family, and what each of the library's verbs must do with every one of them.

They are small, built without downloads, and written as their authors write them: in place, with layers that share
weights, in blocks of modules or of functions. `zoo` has one small network for each kind of *layer*; this package has
one for each kind of *network*. Both are cases of the same kind, and are held against the same naive answer.
"""
