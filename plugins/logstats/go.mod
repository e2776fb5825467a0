module logstats

go 1.24

require runner v0.0.0

replace runner => ../../plugin-sdk/go
