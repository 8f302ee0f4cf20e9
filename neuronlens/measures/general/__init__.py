"""What an edit does beside the concepts: perplexity and MMLU."""
