"""Who is who: numbers of patients, their links, and what each hospital's systems call its numbering."""
