module conformance

go 1.24

require runner v0.0.0

replace runner => ../../go
