"""A recurrent language model in NumPy: text in, held-out bits per character and generated text out.

The RNN LM of Mikolov et al. (2010), with any cell and any number of layers. The recurrent layers run on any backend
of `rnn_gpu`; all the rest (embedding, softmax, optimiser, checkpoints) is here.
"""
