"""The network: modules and tensors only; no cache, no files, no tokenizer."""
