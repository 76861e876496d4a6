using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Text.Json.Nodes;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.OpenApi;

namespace GpuTasks.Gateway.Tests;

/// <summary>
/// Requests made at random from the interface's own tables, many of them broken, over raw connections. GPUTASKS_FUZZ_REQUESTS says
/// how many (default 3,000), GPUTASKS_FUZZ_SEED which.
/// </summary>
public sealed class FuzzTests
{
    private const int AtOnce = 16;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    [Fact]
    public async Task No_request_brings_an_error_of_the_platform_or_silence()
    {
        var count = int.Parse(Environment.GetEnvironmentVariable("GPUTASKS_FUZZ_REQUESTS") ?? "3000", CultureInfo.InvariantCulture);
        var seed = int.Parse(Environment.GetEnvironmentVariable("GPUTASKS_FUZZ_SEED") ?? Random.Shared.Next().ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);
        await using var server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
        var slot = server.Platform.Acquire;
        server.Platform.Acquire = id => slot(id) with { Streams = HashCode.Combine(0, id) % 2 == 0 };
        await server.CallAsync("POST", "/2023-03-30/functions/f/triggers", """{"triggerName":"web","triggerType":"http","triggerConfig":"{\"authType\":\"anonymous\",\"methods\":[\"GET\",\"POST\"]}"}""");
        var statuses = new ConcurrentDictionary<int, int>();
        var faults = new ConcurrentQueue<string>();
        await Parallel.ForEachAsync(
            Enumerable.Range(0, count),
            new ParallelOptions { MaxDegreeOfParallelism = AtOnce, CancellationToken = TestContext.Current.CancellationToken },
            async (index, cancellationToken) =>
            {
                var request = new RequestMaker(new Random(HashCode.Combine(0, index) ^ seed)).Make();
                string answer;
                try
                {
                    answer = await SendAsync(server.SocketFile, request, cancellationToken);
                }
                catch (Exception e) when (e is SocketException or IOException or TimeoutException)
                {
                    faults.Enqueue($"{e.GetType().Name}: {e.Message}\n{Encoding.Latin1.GetString(request)}");
                    return;
                }

                // An answer to HEAD has no body; every other error is JSON with a code. 505 is asked for: by a version of HTTP that there is not.
                var status = answer.StartsWith("HTTP/1.1 ", StringComparison.Ordinal) ? int.Parse(answer.AsSpan(9, 3), CultureInfo.InvariantCulture) : 0;
                statuses.AddOrUpdate(status, 1, (_, known) => known + 1);
                var isHead = request.AsSpan().StartsWith("HEAD "u8);
                if (status is >= 500 and not 505 || (status >= 400 && !isHead && !answer.Contains("\"Code\":\"", StringComparison.Ordinal)))
                {
                    faults.Enqueue($"{answer}\n---\n{Encoding.Latin1.GetString(request)}");
                }
            });
        Assert.True(faults.IsEmpty, $"seed {seed}, {faults.Count} faults of {count}; the first: {faults.FirstOrDefault()}");
        Assert.Equal(200, (int)(await server.CallAsync("GET", "/healthz")).Status);

        // Else it would prove nothing.
        var told = string.Join(", ", statuses.OrderBy(pair => pair.Key).Select(pair => $"{pair.Key}: {pair.Value}"));
        Assert.True(statuses.GetValueOrDefault(0) < count / 20 && statuses.GetValueOrDefault(200) > count / 50 && statuses.GetValueOrDefault(400) > count / 50, told);
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}: {told}");
    }

    private static async Task<string> SendAsync(string socketFile, byte[] request, CancellationToken cancellationToken)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        patience.CancelAfter(Patience);
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(socketFile), patience.Token);
        var answer = new MemoryStream();
        try
        {
            await socket.SendAsync(request, patience.Token);

            // A broken request may leave the server waiting for more. Who ends at once is taken for gone, and gets no answer.
            using var end = new Timer(_ => End(socket), null, TimeSpan.FromSeconds(2), Timeout.InfiniteTimeSpan);
            var buffer = new byte[16_384];
            while (await socket.ReceiveAsync(buffer, patience.Token) is > 0 and var got)
            {
                await answer.WriteAsync(buffer.AsMemory(0, got), patience.Token);
            }
        }
        catch (SocketException) when (answer.Length > 0 || request.Length > 4_096)
        {
            // It may answer and close before it has read everything.
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            throw new TimeoutException("There was no end of the answer.");
        }

        return Encoding.Latin1.GetString(answer.GetBuffer(), 0, (int)answer.Length);
    }

    private static void End(Socket socket)
    {
        try
        {
            socket.Shutdown(SocketShutdown.Send);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // It has ended by itself.
        }
    }

    /// <summary>One request's bytes.</summary>
    private sealed class RequestMaker(Random random)
    {
        private static readonly string[] Keys =
        [
            GatewayServer.ApiKey, GatewayServer.ApiKey, GatewayServer.ApiKey, GatewayServer.OperatorKey, GatewayServer.OperatorKey, GatewayServer.OtherApiKey, "unknown", "",
        ];

        private static readonly string[] Texts =
        [
            "", "f", "web", "LATEST", "custom-container", "fc.gpu.tesla.1", "timer", "http", "access", "x y", "é", "\u0000", "\ud800", "\r\n", "a/b", "..", "%00", "'\"<>&", "1", "true", "-", "_",
            "acs:fc:local-1::functions/f", "@every 5m", "0 0 4 * * *", """{"cronExpression":"@every 5m"}""", """{"authType":"anonymous","methods":["GET"]}""", """{"cronExpression":"* * *"}""",
            """{"authType":"jwt","methods":["GET"],"authConfig":{"jwks":{"keys":[{"kty":"EC","crv":"P-256","x":"!","y":""}]}}}""", "[]", "{", "null", new string('a', 200), new string('ü', 5_000),
        ];

        private static readonly double[] Numbers = [0, 1, -1, 2, 0.05, 0.35, 64, 512, 1_024, 9_000, 10_240, 16_384, 65_536, 2_147_483_647, 2_147_483_648, -9.3e18, 1e300, 0.1];

        public byte[] Make()
        {
            var operation = Pick(ApiTable.Operations);
            var request = new StringBuilder();
            var method = random.Next(20) == 0 ? Pick(["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "FOO"]) : operation.Method;
            request.Append(method).Append(' ').Append(Target(operation)).Append(" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
            Authorize(request);
            foreach (var name in operation.Headers.Split(' ', StringSplitOptions.RemoveEmptyEntries).Where(_ => random.Next(2) == 0))
            {
                request.Append(name).Append(": ").Append(Printable(Pick(["Async", "Sync", "Tail", "None", "job_1", Text(), $"t{random.Next()}"]))).Append("\r\n");
            }

            var body = operation.Body is null or "bytes" ? random.Next(4) == 0 ? Bytes() : [] : Body(operation.Body);
            if (body.Length > 0)
            {
                request.Append("Content-Length: ").Append(random.Next(50) == 0 ? random.Next(-5, 1_000_000) : body.Length).Append("\r\n");
            }

            byte[] bytes = [.. Encoding.UTF8.GetBytes(request.Append("\r\n").ToString()), .. body];
            return random.Next(6) == 0 ? Break(bytes) : bytes;
        }

        private string Target(ApiOperation operation)
        {
            // Disabling the accounts that the other requests use would leave nothing to try.
            var parts = operation.Path.Split('/').Select(part => part switch
            {
                "{account}" => operation.Path.StartsWith("/http/", StringComparison.Ordinal) ? GatewayServer.Account : $"a{random.Next(5)}",
                "{function}" => Pick(["f", "f", "f", "g", Escaped(Text())]),
                "{trigger}" => Pick(["web", "t", "u", Escaped(Text())]),
                "{taskId}" => Pick(["job_1", Escaped(Text())]),
                _ when part.StartsWith('{') => Escaped(Pick(["n1", "x", Text()])),
                _ => part,
            });
            var query = operation.Query.Split(' ', StringSplitOptions.RemoveEmptyEntries).Where(_ => random.Next(3) == 0)
                .Select(name => $"{name.Split(':')[0]}={Escaped(random.Next(2) == 0 ? Text() : Pick(["1", "100", "true", "[]", """[{"Key":"k"}]""", "2023"]))}");
            var text = string.Join('/', parts) + (string.Join('&', query) is { Length: > 0 } joined ? "?" + joined : "");
            return text.Length > 0 ? text : "/";
        }

        private void Authorize(StringBuilder request)
        {
            switch (random.Next(12))
            {
                case 0:
                    request.Append("Authorization: ACS3-HMAC-SHA256 Credential=").Append(Printable(Text())).Append(",SignedHeaders=host;x-acs-date,Signature=00\r\nx-acs-date: ")
                        .Append(Printable(Text())).Append("\r\nx-acs-signature-nonce: n\r\nx-acs-content-sha256: 0\r\n");
                    break;
                case 1:
                    request.Append("Authorization: acs ").Append(GatewayServer.AccessKey).Append(':').Append(Printable(Text())).Append("\r\nDate: ").Append(Printable(Text())).Append("\r\nx-acs-signature-nonce: n\r\n");
                    break;
                case 2:
                    request.Append("Authorization: ").Append(Pick(["Basic ", "Bearer ", "Bearer", "acs ", ""])).Append(Printable(Text())).Append("\r\n");
                    break;
                default:
                    request.Append("Authorization: Bearer ").Append(Pick(Keys)).Append("\r\n");
                    break;
            }
        }

        private byte[] Body(string schema)
        {
            if (random.Next(20) == 0)
            {
                return Bytes();
            }

            var text = Structure(schema, 0).ToJsonString();
            return Encoding.UTF8.GetBytes(random.Next(20) == 0 ? text[..random.Next(text.Length)] : text);
        }

        private JsonObject Structure(string schema, int depth)
        {
            var json = new JsonObject();
            foreach (var field in Schemas.FieldsOf(schema).Where(field => random.Next(field.Required ? 20 : 3) != 0))
            {
                json[field.Name] = random.Next(5) == 0 ? Junk(depth) : Value(field.Type, depth);
            }

            // Names that lead deeper than chance would.
            if (schema.StartsWith("CreateFunction", StringComparison.Ordinal) && random.Next(2) == 0)
            {
                json["functionName"] = Pick(["f", "g", $"f{random.Next(1000)}"]);
                json["runtime"] = "custom-container";
                json["customContainerConfig"] = new JsonObject { ["image"] = "i" };
            }

            return json;
        }

        private JsonNode? Value(string type, int depth) => type switch
        {
            _ when type.EndsWith("[]", StringComparison.Ordinal) => new JsonArray([.. Enumerable.Range(0, random.Next(4)).Select(_ => Value(type[..^2], depth + 1))]),
            "string" => Text(),
            "int" or "number" => JsonValue.Create(Pick(Numbers)),
            "bool" => random.Next(2) == 0,
            "map" => new JsonObject { ["A"] = "x", ["SECRET_B"] = Pick(["******", "y"]), [$"k{random.Next(3)}"] = Text() },
            "any" or "bytes" => Junk(depth),
            _ => depth > 6 ? null : Structure(type, depth + 1),
        };

        private JsonNode? Junk(int depth) => random.Next(depth > 6 ? 4 : 6) switch
        {
            0 => null,
            1 => Text(),
            2 => JsonValue.Create(Pick(Numbers)),
            3 => random.Next(2) == 0,
            4 => new JsonArray([.. Enumerable.Range(0, random.Next(3)).Select(_ => Junk(depth + 1))]),
            _ => new JsonObject { ["a"] = Junk(depth + 1) },
        };

        // A lone surrogate cannot be written as JSON text; broken bytes come by the breaking below.
        private string Text() => Pick(Texts) is var text && text == "\ud800" ? "?" : text;

        private byte[] Bytes()
        {
            var bytes = new byte[random.Next(1, 200)];
            random.NextBytes(bytes);
            return bytes;
        }

        private byte[] Break(byte[] request)
        {
            var bytes = request.ToList();
            for (var times = random.Next(1, 5); times > 0; times--)
            {
                var at = random.Next(bytes.Count);
                switch (random.Next(4))
                {
                    case 0:
                        bytes[at] = (byte)random.Next(256);
                        break;
                    case 1:
                        bytes.Insert(at, (byte)random.Next(256));
                        break;
                    case 2 when bytes.Count > 1:
                        bytes.RemoveAt(at);
                        break;
                    default:
                        bytes.InsertRange(at, bytes.GetRange(at, Math.Min(bytes.Count - at, random.Next(1, 40))));
                        break;
                }
            }

            return [.. bytes];
        }

        private T Pick<T>(IReadOnlyList<T> items) => items[random.Next(items.Count)];

        private static string Escaped(string text) => Uri.EscapeDataString(text);

        private static string Printable(string text) => string.Concat(text.Where(c => c is >= ' ' and <= '~'));
    }
}
