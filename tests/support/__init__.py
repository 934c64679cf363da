"""What the tests share: cells, cases, calls made from them, and the backends that run them."""
