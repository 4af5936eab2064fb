"""Systems against each other from text to text: speed, memory and quality, each system in a process of its own.

Its modules are imported by their names: a process that runs one system loads this package, and should hold nothing in
memory that the system does not need.
"""
