"""The program in the report that runs the flatbuffer."""
