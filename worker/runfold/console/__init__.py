"""What a process prints: kept line by line, passed on unchanged.

fd_capture.py diverts the descriptors to tee.py, a process of its own; wrap.py stands in where no child may be
started; lines.py and screen.py make lines of bytes, budget.py bounds them, keeper.py puts them into a spool.
"""
