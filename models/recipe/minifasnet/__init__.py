"""`make liveness`: the published weights of two networks into models/, without TensorFlow or PyTorch."""
