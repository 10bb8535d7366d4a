"""What the bench computes from grades. It knows numbers only: nobody is asked, and no file is read."""
