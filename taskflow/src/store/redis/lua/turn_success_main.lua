table.insert(answer, 1, table.concat(answers))
return answer
