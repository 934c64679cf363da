"""The asv suite of rnn_gpu."""
