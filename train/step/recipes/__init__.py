"""What training does besides the loss and Adam, one file per recipe; `registry` lists them."""
