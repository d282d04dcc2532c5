-- Types with values at their edges. One line each: kind¦type¦value¦value…, where kind is "key" if the type may be
-- part of a key, else "value"; a value is SQL. Types that a server does not know are left out.
key¦smallint¦-32768¦32767¦0
key¦integer¦-2147483648¦2147483647¦0
key¦bigint¦-9223372036854775808¦9223372036854775807¦9007199254740993¦-9007199254740993
key¦real¦'NaN'¦'Infinity'¦'-Infinity'¦'-0'¦'0'¦3.4028235e38¦'1e-45'¦0.1¦1.17549435e-38
key¦double precision¦'NaN'¦'Infinity'¦'-Infinity'¦'-0'¦'0'¦1.7976931348623157e308¦'5e-324'¦0.30000000000000004¦9007199254740993¦1e23
key¦numeric¦'NaN'¦1.0¦1.00¦0.000¦'-0'¦-1e-300¦123456789012345678901234567890.123456789¦9007199254740993¦1e400
value¦numeric¦repeat('9', 130000)::numeric¦('0.' || repeat('7', 16000))::numeric
key¦numeric(30,10)¦1¦-0.0000000001¦12345678901234567890
key¦money¦'0'¦'1234.56'¦'-92233720368547758.08'¦'92233720368547758.07'
key¦text¦''¦' '¦'NULL'¦'null'¦E'\\N'¦E'\\.'¦E'\n\\.\n'¦'"'¦''''¦E'quote'' " \\ , ( ) { } ; $1 $$ %s'¦E'tab\tnl\ncr\rcrlf\r\n'¦'žluťoučký 🐎'¦E'e\u0301'¦E'\x01\x7f'¦E'\u200b\ufeff'¦' lead and trail '¦'1; DROP TABLE typed_0; --'
value¦text¦repeat('toasted ü ', 3000)¦(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n)
key¦varchar(20)¦''¦'a '¦'aaaaaaaaaaaaaaaaaaaa'¦'ä€🐎'
key¦char(5)¦''¦'a'¦' a'¦'aaaaa'¦'ä€🐎'
key¦bpchar¦''¦'a  '¦' a '
key¦"char"¦''¦'a'¦' '¦'"'¦','
key¦name¦''¦'a"b'¦'ü n63456789012345678901234567890123456789012345678901234567890'
key¦bytea¦''¦'\x00'¦'\x00ff5c27220a0d'¦'\x5c783030'¦'abc'
value¦bytea¦decode(repeat('00ff5c', 5000), 'hex')
key¦date¦'infinity'¦'-infinity'¦'4713-01-01 BC'¦'5874897-12-31'¦'2000-02-29'¦'0001-12-31 BC'¦'1582-10-15'¦'2020-03-04'
key¦time¦'24:00:00'¦'00:00:00'¦'23:59:59.999999'
key¦time(0)¦'24:00:00'¦'12:34:56'
key¦timetz¦'24:00:00-15:59'¦'00:00:00+15:59'¦'12:00:00.000001+05:30:15'
key¦timestamp¦'infinity'¦'-infinity'¦'4714-11-24 00:00:00 BC'¦'294276-12-31 23:59:59.999999'¦'0044-03-15 12:00:00.5 BC'¦'2020-03-04 05:06:07.000001'
key¦timestamptz¦'infinity'¦'-infinity'¦'4714-11-24 00:00:00+00 BC'¦'294276-12-31 23:59:59.999999+00'¦'1883-11-18 12:03:58-05'¦'0044-03-15 12:00:00.5+00 BC'¦'2020-03-04 05:06:07.000001+01'
key¦interval¦'0'¦'1 mon'¦'30 days'¦'1 day'¦'24:00:00'¦'1 day -00:00:01'¦'-1 mon +1 day -00:00:00.000001'¦'-178000000 years'¦'178000000 years'¦'-1 year -2 mons +3 days'
value¦interval day to second(2)¦'1 day 02:03:04.05'
key¦boolean¦true¦false
key¦uuid¦'00000000-0000-0000-0000-000000000000'¦'ffffffff-ffff-ffff-ffff-ffffffffffff'
key¦inet¦'::1/0'¦'10.1.2.3/8'¦'::ffff:1.2.3.4/128'¦'0.0.0.0'
key¦cidr¦'10.0.0.0/8'¦'::/0'¦'2001:db8::/32'
key¦macaddr¦'00:00:00:00:00:00'¦'ff:ff:ff:ff:ff:ff'
key¦macaddr8¦'00:00:00:00:00:00:00:00'¦'ff:ff:ff:ff:ff:ff:ff:ff'
value¦json¦'null'¦' null '¦'{"a": 1, "a":  2}'¦E'\n{ }\n'¦'[ 1.0, 1e400, -0 ]'¦'"\u00e9\\u0000"'¦'1'¦'"x"'¦'""'¦'{"k\"":[{},[[]],null]}'
key¦jsonb¦'null'¦'1.0'¦'1.00'¦'1e300'¦'{"b":1,"a":[{},[]]}'¦'""'¦'"\"\\ü"'¦'[]'¦'{}'¦'-0.0'¦'true'
value¦xml¦''¦'<a>b</a>'¦'x<b/>y'¦'<!-- c --><a/>'¦'<?xml version="1.0"?><a/>'¦'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><a>ü</a>'¦'<a b="&quot;&lt;">&amp;</a>'¦' '
value¦xml¦'<!DOCTYPE a><a/>'
key¦bit(5)¦B'10101'¦B'00000'
key¦bit varying¦B''¦B'1'¦B'000000000'
value¦point¦'(NaN,Infinity)'¦'(-0,1e-300)'¦'(0.1,0.30000000000000004)'
value¦line¦'{1,2,3}'¦'{0,-1,0.1}'
value¦lseg¦'[(0,0),(-0,1e300)]'
value¦box¦'(1,2),(0.1,0.2)'
value¦path¦'[(0,0),(1,1)]'¦'((0,0),(1,1),(2,-0))'
value¦polygon¦'((0,0),(1,1),(2,0.1))'
value¦circle¦'<(0,0),1e300>'¦'<(0.1,-0),Infinity>'
key¦tsvector¦''¦'''a'' ''b'':1A,2'¦$$'it''s':3 'back\\slash' ' '$$
key¦tsquery¦''¦$$'a' & !('it''s':*AB | 'b') <2> 'c'$$
key¦oid¦0¦4294967295
key¦regclass¦'pg_class'¦'-'¦4000000000
value¦regtype¦'int4'¦'-'¦'text[]'¦'double precision'
value¦regproc¦'now'¦'-'¦4000000000
value¦regprocedure¦'lower(text)'¦'-'
value¦regoperator¦'+(integer,integer)'¦'-(none,bigint)'
value¦regnamespace¦'pg_catalog'¦'information_schema'
value¦regconfig¦'simple'¦'english'
value¦regcollation¦'"C"'¦'-'
value¦xid¦'0'¦'4294967295'
key¦xid8¦'0'¦'18446744073709551615'
value¦cid¦'4294967295'
key¦tid¦'(0,0)'¦'(4294967295,65535)'
key¦pg_lsn¦'0/0'¦'FFFFFFFF/FFFFFFFF'
value¦pg_snapshot¦'10:20:10,14,15'¦'1:1:'
value¦refcursor¦'a b'
value¦jsonpath¦'$.a[*]?(@ > 1)'¦'strict $."x y"'
value¦int2vector¦''¦'1 2 3'
value¦oidvector¦''¦'1 4294967295'
value¦aclitem¦'=r/postgres'¦'postgres=arwdDxt/postgres'
key¦int4range¦'empty'¦'(,)'¦'[1,5)'
key¦int8range¦'empty'¦'[-9223372036854775808,9223372036854775807)'
key¦numrange¦'empty'¦'[1.0,1.10]'¦'(,NaN)'
key¦tsrange¦'(,)'¦'[-infinity,infinity]'¦'["2020-01-02 03:04:05",)'
key¦tstzrange¦'empty'¦'["2020-01-02 03:04:05+00","2020-01-02 03:04:05.000001+00")'
key¦daterange¦'[-infinity,infinity)'¦'(,"0044-03-15 BC")'
value¦int4multirange¦'{}'¦'{[1,2),[5,)}'
value¦tstzmultirange¦'{["2020-01-02 03:04:05+00",)}'¦'{(,)}'
value¦integer[]¦'{}'¦'[-1:1]={1,NULL,3}'¦'{{1,2},{3,4}}'¦'[2:2][-3:-2]={{7,8}}'
value¦text[]¦'{}'¦'{"",NULL,"NULL","a,b","{}","\"","\\"," "}'
key¦mood¦'sad'¦'it''s "ok", \ or {not}'¦''
value¦mood_domain¦'sad'
key¦short¦'abc'¦''¦'a b'
value¦words¦'{}'¦'{a,NULL,"b c"}'
value¦positive¦1.50
value¦pair¦'(1,)'¦'(,"""a, b"" \\ ()")'¦'(,)'¦'(,"")'
value¦nested¦'("(1,""x y"")","{""(2,)"",NULL}",sad)'¦'(,,)'
value¦pair_domain¦'(1,x)'
value¦float_range¦'[-0,NaN]'¦'(0.1,0.30000000000000004]'¦'empty'
value¦text_range¦'["a b","c\"d")'¦'[,""]'
key¦citext¦'Ab'¦'aB'¦''¦'ÜBER'
value¦hstore¦''¦'a=>1,b=>NULL,"c d"=>"\"=>"'
value¦ltree¦''¦'Top.Science.A_1'
value¦lquery¦'Top.*{1,2}.!a|b@*'
value¦isbn¦'0-393-04002-X'¦'978-0-393-04002-9'
value¦ean13¦'220-5555555557'¦'0000000000000'
value¦upc¦'220356483481'
value¦cube¦'(0.1,2),(3,-4)'¦'(0)'¦'()'
value¦seg¦'1.0 .. 2'¦'~5.00'¦'<3'¦'.. 4'¦'2.50(+-)0.5'
