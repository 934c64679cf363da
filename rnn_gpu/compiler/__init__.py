"""The cell compiler: a cell's text -> graph -> stages -> backward graph -> source text."""
