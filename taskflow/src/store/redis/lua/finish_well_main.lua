return table.concat(answers)
