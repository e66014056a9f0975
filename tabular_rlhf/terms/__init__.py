"""What several records of the book say with the same words: when a claim is asked, how large its terms are, what its letters stand for.

A chapter's file holds its rows and what they alone use; what a derivation, an exercise or another chapter uses as well stands here.
"""
