"""Readers: each turns one kind of data set into a corpus folder.

``lebel2023.read_lebel2023`` reads OpenNeuro ds003020; ``folder.read_folder`` reads any data described by a
``corpus.yaml``.
"""
