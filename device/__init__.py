# The runtime of the board. The host never imports these files: it copies them to the board's flash.
