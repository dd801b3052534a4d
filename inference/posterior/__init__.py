"""What a fit returns: draws, what was found wrong with them, predictions, a longer run."""
