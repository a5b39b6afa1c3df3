"""Flatbuffers: conversion, reading and writing, census, runtimes and latency."""
