"""How nano is made: fetch the sources, build the corpus, cut the tokenizer, train, pack."""
