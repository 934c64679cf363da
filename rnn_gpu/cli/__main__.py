"""`python -m rnn_gpu.cli`, the same as `rnn-gpu`."""

import sys

from rnn_gpu.cli import main

sys.exit(main())
