"""What every back end of the store must do, tested on each back end that is here."""
