"""The cloud as text (CloudFormation), and the tools that package it and bring an institution in."""
