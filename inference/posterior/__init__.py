"""What a fit returns: draws, findings on them, predictions, and how to run it for longer."""
