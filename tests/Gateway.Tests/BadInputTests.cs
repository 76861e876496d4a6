using System.Net;
using System.Net.Sockets;
using System.Text;
using CsCheck;
using GpuTasks.Nodes;

namespace GpuTasks.Gateway.Tests;

public sealed class BadInputTests : IAsyncLifetime
{
    private const string Functions = "/2023-03-30/functions";
    private GatewayServer server = null!;

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync() => server = await GatewayServer.StartAsync();

    public ValueTask DisposeAsync() => server.DisposeAsync();

    /// <summary>Field, a value that is not allowed, and what the message must say is.</summary>
    public static TheoryData<string, string, string> Values => new()
    {
        { "functionName", "\"1a\"", "letters, digits" },
        { "functionName", "\"-a\"", "letters, digits" },
        { "functionName", "\"a/b\"", "letters, digits" },
        { "functionName", "\"\"", "1 to 128" },
        { "functionName", "null", "required" },
        { "functionName", "7", "letters, digits" },
        { "runtime", "\"python3.10\"", "custom-container" },
        { "runtime", "null", "required" },
        { "handler", "1", "string" },
        { "description", "[]", "string" },
        { "cpu", "0", "from 0.05 to 16" },
        { "cpu", "16.05", "from 0.05 to 16" },
        { "cpu", "0.07", "multiple of 0.05" },
        { "cpu", "\"1\"", "number" },
        { "cpu", "1e400", "number" },
        { "memorySize", "64", "from 128 to 32768" },
        { "memorySize", "32832", "from 128 to 32768" },
        { "memorySize", "1000", "multiple of 64" },
        { "memorySize", "512.5", "integer" },
        { "diskSize", "1024", "512 or 10240" },
        { "timeout", "0", "from 1 to 86400" },
        { "timeout", "86401", "from 1 to 86400" },
        { "timeout", "-1", "from 1 to 86400" },
        { "timeout", "99999999999999999999", "from 1 to 86400" },
        { "instanceConcurrency", "0", "from 1 to 200" },
        { "instanceConcurrency", "201", "from 1 to 200" },
        { "idleTimeout", "0", "from 1 to 86400" },
        { "internetAccess", "\"yes\"", "true or false" },
        { "environmentVariables", "[1]", "object" },
        { "environmentVariables", "{\"a\":1}", "strings" },
        { "environmentVariables", "{\"1a\":\"b\"}", "start with a letter" },
        { "environmentVariables", "{\"a-b\":\"b\"}", "letters, digits" },
        { "environmentVariables", "{\"FC_X\":\"b\"}", "reserved" },
        { "environmentVariables", $"{{\"a\":\"{new string('x', 4096)}\"}}", "4096" },
        { "gpuConfig", "1", "object" },
        { "gpuConfig", "{\"gpuType\":\"fc.gpu.tesla.1\"}", "gpuMemorySize: is required" },
        { "gpuConfig", "{\"gpuMemorySize\":1024}", "gpuType: is required" },
        { "gpuConfig", "{\"gpuType\":\"a b\",\"gpuMemorySize\":1024}", "card type" },
        { "gpuConfig", "{\"gpuType\":\"a\",\"gpuMemorySize\":1000}", "multiple of 1024" },
        { "gpuConfig", "{\"gpuType\":\"a\",\"gpuMemorySize\":0}", "from 1024" },
        { "customContainerConfig", "null", "required" },
        { "customContainerConfig", "{}", "image: is required" },
        { "customContainerConfig", "{\"image\":\"\"}", "image" },
        { "customContainerConfig", "{\"image\":\"a b\"}", "image reference" },
        { "customContainerConfig", "{\"image\":\"a\",\"port\":0}", "from 1 to 65535" },
        { "customContainerConfig", "{\"image\":\"a\",\"port\":65536}", "from 1 to 65535" },
        { "customContainerConfig", "{\"image\":\"a\",\"command\":\"x\"}", "array" },
        { "customContainerConfig", "{\"image\":\"a\",\"entrypoint\":[1]}", "strings" },
        { "customContainerConfig", "{\"image\":\"a\",\"healthCheckConfig\":{\"httpGetUrl\":\"x\"}}", "starts with '/'" },
        { "customContainerConfig", "{\"image\":\"a\",\"healthCheckConfig\":{\"initialDelaySeconds\":121}}", "from 0 to 120" },
        { "customContainerConfig", "{\"image\":\"a\",\"healthCheckConfig\":{\"periodSeconds\":0}}", "from 1 to 120" },
        { "customContainerConfig", "{\"image\":\"a\",\"healthCheckConfig\":{\"timeoutSeconds\":4}}", "from 1 to 3" },
        { "customContainerConfig", "{\"image\":\"a\",\"healthCheckConfig\":{\"failureThreshold\":121}}", "from 1 to 120" },
        { "customContainerConfig", "{\"image\":\"a\",\"healthCheckConfig\":{\"successThreshold\":0}}", "from 1 to 120" },
        { "customContainerConfig", "{\"image\":\"a\",\"registryConfig\":7}", "object" },
        { "customContainerConfig", "{\"image\":\"a\",\"acrInstanceId\":{}}", "string" },
        { "instanceLifecycleConfig", "{\"initializer\":{\"timeout\":301}}", "from 1 to 300" },
        { "instanceLifecycleConfig", "{\"preStop\":{\"timeout\":91}}", "from 1 to 90" },
        { "role", "{}", "string" },
        { "logConfig", "\"x\"", "object" },
        { "layers", "{}", "array" },
        { "tags", "{\"a\":\"b\"}", "array" },
        { "tags", "[{\"Value\":\"b\"}]", "Key: is required" },
        { "tags", "[{\"Key\":\"a\"},{\"Key\":\"a\"}]", "twice" },
        { "nasConfig", $"{{\"x\":\"{new string('x', 70_000)}\"}}", "65536" },
    };

    [Theory]
    [MemberData(nameof(Values))]
    public async Task A_value_that_is_not_allowed_is_named_with_what_is(string field, string value, string rule)
    {
        Dictionary<string, string> fields = new()
        {
            ["functionName"] = "\"f\"",
            ["runtime"] = "\"custom-container\"",
            ["handler"] = "\"h\"",
            ["customContainerConfig"] = "{\"image\":\"a\"}",
            [field] = value,
        };
        var answer = await server.CallAsync("POST", Functions, $"{{{string.Join(',', fields.Select(f => $"\"{f.Key}\":{f.Value}"))}}}");
        answer.Is(400, "InvalidArgument");
        Assert.True(answer.Message!.Contains(field, StringComparison.Ordinal) || field == "nasConfig", answer.Message);
        Assert.Contains(rule, answer.Message!, StringComparison.Ordinal);
        Assert.Empty(server.Platform.Functions);
    }

    [Theory]
    [InlineData("asyncTask", "1", "true or false")]
    [InlineData("maxAsyncRetryAttempts", "9", "from 0 to 8")]
    [InlineData("maxAsyncRetryAttempts", "-1", "from 0 to 8")]
    [InlineData("maxAsyncEventAgeInSeconds", "0", "from 1 to 604800")]
    [InlineData("maxAsyncEventAgeInSeconds", "604801", "from 1 to 604800")]
    [InlineData("destinationConfig", "\"x\"", "object")]
    [InlineData("destinationConfig", "{\"onFailure\":{\"destination\":1}}", "string")]
    public async Task An_async_config_that_is_not_allowed_is_named(string field, string value, string rule)
    {
        await server.CreateAsync("f", taskMode: false);
        var answer = await server.CallAsync("PUT", $"{Functions}/f/async-invoke-config", $"{{\"{field}\":{value}}}");
        answer.Is(400, "InvalidArgument");
        Assert.Contains(field, answer.Message!, StringComparison.Ordinal);
        Assert.Contains(rule, answer.Message!, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("async-tasks?status=Done", "status")]
    [InlineData("async-tasks?status=None", "status")]
    [InlineData("async-tasks?status=3", "status")]
    [InlineData("async-tasks?limit=0", "limit")]
    [InlineData("async-tasks?limit=101", "limit")]
    [InlineData("async-tasks?limit=x", "limit")]
    [InlineData("async-tasks?limit=1&limit=2", "limit")]
    [InlineData("async-tasks?startedTimeBegin=-1", "startedTimeBegin")]
    [InlineData("async-tasks?startedTimeEnd=99999999999999999", "startedTimeEnd")]
    [InlineData("async-tasks?sortOrderByTime=up", "sortOrderByTime")]
    [InlineData("async-tasks?includePayload=2", "includePayload")]
    [InlineData("async-tasks?nextToken=abc", "nextToken")]
    [InlineData("async-tasks/1abc", "taskId")]
    [InlineData("async-tasks/a%2Fb", "taskId")]
    public async Task A_query_that_is_not_allowed_is_named(string path, string field)
    {
        await server.CreateAsync("f");
        var answer = await server.CallAsync("GET", $"{Functions}/f/{path}");
        answer.Is(400, "InvalidArgument");
        Assert.Contains(field, answer.Message!, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("?limit=1000")]
    [InlineData("?nextToken=%21")]
    [InlineData("?nextToken=YS9i")]
    [InlineData("?tags=x")]
    [InlineData("?tags=[1]")]
    [InlineData("?tags=[{}]")]
    [InlineData("?tags=1,%22x%22:2")]
    [InlineData("?fcVersion=v9")]
    [InlineData("?prefix=%00")]
    public async Task A_function_list_that_is_not_allowed_is_refused(string query) =>
        (await server.CallAsync("GET", Functions + query)).Is(400, "InvalidArgument");

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("\"x\"")]
    [InlineData("{} {}")]
    [InlineData("{\"timeout\":1,\"timeout\":2}")]
    [InlineData("{\"description\":\"\\ud800\"}")]
    [InlineData("{\"\\ud800\":1}")]
    [InlineData("{\"description\":\"a\\u0000b\"}")]
    [InlineData("{\"description\":NaN}")]
    public async Task A_body_that_is_no_json_object_is_refused(string body)
    {
        await server.CreateAsync("f");
        (await server.CallAsync("PUT", $"{Functions}/f", body)).Is(400, "InvalidArgument");
        (await server.CallAsync("POST", Functions, body)).Is(400, "InvalidArgument");
        (await server.CallAsync("PUT", $"{Functions}/f/async-invoke-config", body)).Is(400, "InvalidArgument");
    }

    [Fact]
    public async Task Bytes_that_are_no_text_are_refused()
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, Functions);
        request.Headers.Authorization = new("Bearer", GatewayServer.ApiKey);
        (await server.SendAsync(request, [.. "{\"description\":\""u8, 0xff, 0xfe, .. "\"}"u8])).Is(400, "InvalidArgument");
        using var deep = new HttpRequestMessage(HttpMethod.Post, Functions);
        deep.Headers.Authorization = new("Bearer", GatewayServer.ApiKey);
        (await server.SendAsync(deep, Encoding.ASCII.GetBytes(new string('[', 100_000)))).Is(400, "InvalidArgument");
    }

    [Theory]
    [InlineData("GET", "/")]
    [InlineData("GET", "/nothing/here.html")]
    [InlineData("POST", "/2023-03-30")]
    [InlineData("PATCH", "/2023-03-30/functions")]
    [InlineData("DELETE", "/2023-03-30/functions")]
    [InlineData("GET", "/2023-03-30/custom-domains")]
    [InlineData("POST", "/2023-03-30/functions/f/versionz")]
    [InlineData("GET", "/2023-03-30/functions/f/invocations")]
    [InlineData("PUT", "/v1/nodes")]
    [InlineData("GET", "/v2/nodes")]
    [InlineData("OPTIONS", "/2023-03-30/functions")]
    public async Task An_unknown_path_or_method_is_told(string method, string path) =>
        (await server.CallAsync(method, path)).Is(400, "PathNotSupported");

    [Fact]
    public async Task A_body_over_the_limit_is_refused_with_and_without_its_length_announced()
    {
        await server.CreateAsync("f");
        var atLimit = new string('x', 131_072);
        Assert.Equal(HttpStatusCode.Accepted, (await InvokeAsync(atLimit, chunked: false)).Status);
        Assert.Equal(HttpStatusCode.Accepted, (await InvokeAsync(atLimit, chunked: true)).Status);
        (await InvokeAsync(atLimit + "x", chunked: false)).Is(400, "EntityTooLarge");
        (await InvokeAsync(atLimit + "x", chunked: true)).Is(400, "EntityTooLarge");
        (await server.CallAsync("POST", Functions, new string(' ', 1_048_577))).Is(400, "EntityTooLarge");

        async Task<Answer> InvokeAsync(string body, bool chunked)
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, $"{Functions}/f/invocations");
            request.Headers.Authorization = new("Bearer", GatewayServer.ApiKey);
            request.Headers.Add("x-fc-invocation-type", "Async");
            request.Headers.TransferEncodingChunked = chunked;
            return await server.SendAsync(request, Encoding.ASCII.GetBytes(body));
        }
    }

    [Fact]
    public async Task Overlong_headers_and_paths_are_refused_in_json()
    {
        (await server.CallAsync("GET", Functions, headers: ("x-long", new string('x', 9_000)))).Is(400, "InvalidArgument");
        (await server.CallAsync("GET", $"{Functions}?prefix={new string('x', 5_000)}")).Is(400, "InvalidArgument");
        (await server.CallAsync("GET", $"{Functions}?prefix={new string('x', 129)}")).Is(400, "InvalidArgument");
    }

    [Theory]
    [InlineData("POST /2023-03-30/functions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo-api-key\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")]
    [InlineData("POST /2023-03-30/functions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo-api-key\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX")]
    public async Task A_body_that_breaks_the_protocol_is_told_in_json(string request)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, server.Url.Port, Cancel);
        await using var stream = client.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes(request), Cancel);
        using var reader = new StreamReader(stream);
        var answer = await reader.ReadToEndAsync(Cancel).WaitAsync(TimeSpan.FromSeconds(10), Cancel);
        Assert.StartsWith("HTTP/1.1 400", answer, StringComparison.Ordinal);
        Assert.Contains("\"Code\":\"InvalidArgument\"", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("GET /2023-03-30/functions/f/async-tasks/%00 HTTP/1.1\r\nHost: x\r\n\r\n")]
    [InlineData("GET /2023-03-30/functions HTTP/1.1\r\n\r\n")]
    [InlineData("GET /2023-03-30/functions HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n")]
    [InlineData("GET  HTTP/1.1\r\n\r\n")]
    [InlineData("hello\r\n\r\n")]
    [InlineData("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n")]
    public async Task What_is_refused_before_it_is_a_request_is_told_in_json_too(string request)
    {
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, server.Url.Port, Cancel);
        await using var stream = client.GetStream();
        await stream.WriteAsync(Encoding.ASCII.GetBytes(request), Cancel);
        using var reader = new StreamReader(stream);
        var answer = await reader.ReadToEndAsync(Cancel).WaitAsync(TimeSpan.FromSeconds(10), Cancel);
        Assert.StartsWith("HTTP/1.1 400", answer, StringComparison.Ordinal);
        Assert.Contains("X-Fc-Request-Id: r", answer, StringComparison.Ordinal);
        var body = answer[(answer.IndexOf("\r\n\r\n", StringComparison.Ordinal) + 4)..];
        Assert.Contains($"Content-Length: {body.Length}\r\n", answer, StringComparison.Ordinal);
        Assert.Equal("InvalidArgument", System.Text.Json.JsonDocument.Parse(body).RootElement.GetProperty("Code").GetString());
    }

    [Fact]
    public async Task Another_account_sees_nothing()
    {
        await server.CreateAsync("mine");
        await server.CallAsync("POST", $"{Functions}/mine/invocations", "x", headers: [("x-fc-invocation-type", "Async"), ("x-fc-async-task-id", "t1")]);
        const string Other = GatewayServer.OtherApiKey;
        (await server.CallAsync("GET", $"{Functions}/mine", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("PUT", $"{Functions}/mine", """{"timeout":1}""", Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("DELETE", $"{Functions}/mine", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", $"{Functions}/mine/async-invoke-config", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("PUT", $"{Functions}/mine/async-invoke-config", "{}", Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("DELETE", $"{Functions}/mine/async-invoke-config", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("POST", $"{Functions}/mine/invocations", "x", Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("POST", $"{Functions}/mine/invocations", "x", Other, ("x-fc-invocation-type", "Async"))).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", $"{Functions}/mine/async-tasks", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", $"{Functions}/mine/async-tasks/t1", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("PUT", $"{Functions}/mine/async-tasks/t1/stop", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", "/v1/functions/mine/tasks/t1", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", "/v1/functions/mine/tasks/t1/logs", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", "/v1/functions/mine/counts", key: Other)).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", "/v1/functions/mine/status", key: Other)).Is(404, "FunctionNotFound");
        Assert.Equal(0, (await server.CallAsync("GET", Functions, key: Other)).Json.GetProperty("functions").GetArrayLength());
        Assert.Equal(0, (await server.CallAsync("GET", "/2023-03-30/async-invoke-configs", key: Other)).Json.GetProperty("configs").GetArrayLength());
        Assert.Equal(GatewayServer.OtherAccount, (await server.CallAsync("GET", "/v1/quota?account=1000000000000001", key: Other)).Json.GetProperty("account").GetString());
    }

    [Fact]
    public async Task Faults_inside_are_told_apart_and_tell_nothing_of_the_inside()
    {
        await server.CreateAsync("f");
        var broken = await server.CallAsync("GET", "/breaks");
        broken.Is(500, "InternalServerError");
        Assert.DoesNotContain("secret", broken.Text, StringComparison.Ordinal);

        foreach (var fault in new Exception[] { new TimeoutException("x"), new NodeUnavailableException("n"), new OrleansException("x"), new OperationCanceledException() })
        {
            server.Platform.Fault = fault;
            var answer = await server.CallAsync("GET", $"{Functions}/f");
            answer.Is(503, "ResourceThrottled");
            Assert.Equal("2", answer.Headers["Retry-After"]);
        }

        server.Platform.Fault = new InvalidOperationException("secret");
        (await server.CallAsync("GET", $"{Functions}/f")).Is(500, "InternalServerError");
    }

    [Fact]
    public async Task Random_bodies_and_paths_never_fail_inside()
    {
        await server.CreateAsync("f");
        string[] names = ["functionName", "runtime", "cpu", "memorySize", "gpuConfig", "gpuType", "gpuMemorySize", "customContainerConfig", "image", "port",
            "healthCheckConfig", "registryConfig", "authConfig", "environmentVariables", "tags", "Key", "layers", "timeout", "instanceLifecycleConfig",
            "initializer", "asyncTask", "destinationConfig", "onSuccess", "destination", "maxAsyncRetryAttempts", "role", "diskSize", "description", "x"];
        Gen<string> leaf = Gen.OneOf(
            OneOf("null", "true", "false", "{}", "[]", "\"custom-container\"", "\"a\"", "1e309", "-0", "0.05", "\"\\ud83d\\ude00\"", "\"\\udc00\""),
            Gen.Int.Select(i => i.ToString(System.Globalization.CultureInfo.InvariantCulture)),
            Gen.String[0, 20].Select(text => System.Text.Json.JsonSerializer.Serialize(text)));
        Gen<string> value = leaf;
        for (var depth = 0; depth < 3; depth++)
        {
            var inner = value;
            value = Gen.OneOf(
                leaf,
                inner.Array[0, 3].Select(items => $"[{string.Join(',', items)}]"),
                Gen.Select(OneOf(names), inner).Array[0, 6].Select(fields => $"{{{string.Join(',', fields.Select(field => $"\"{field.Item1}\":{field.Item2}"))}}}"));
        }

        Gen<string> body = Gen.Select(OneOf(names), value).Array[0, 8]
            .Select(fields => $"{{{string.Join(',', fields.DistinctBy(field => field.Item1).Select(field => $"\"{field.Item1}\":{field.Item2}"))}}}");
        (string Method, string Path)[] targets =
            [("POST", Functions), ("PUT", $"{Functions}/f"), ("PUT", $"{Functions}/f/async-invoke-config"), ("POST", $"{Functions}/f/invocations")];
        await Gen.Select(OneOf(targets), body).SampleAsync(async (target, text) =>
        {
            var answer = await server.CallAsync(target.Method, target.Path, text);
            Assert.InRange((int)answer.Status, 200, 499);
        }, iter: 2_000, threads: 1);
        await Gen.Select(OneOf("GET", "PUT", "POST", "DELETE"), Gen.String[0, 12].Array[0, 5], Gen.String[0, 12]).SampleAsync(async (method, parts, query) =>
        {
            var path = $"/2023-03-30/{string.Join('/', parts.Select(Uri.EscapeDataString))}?limit={Uri.EscapeDataString(query)}";
            var answer = await server.CallAsync(method, path);
            Assert.InRange((int)answer.Status, 200, 499);
        }, iter: 500, threads: 1);
    }

    private static Gen<T> OneOf<T>(params T[] items) => Gen.Int[0, items.Length - 1].Select(i => items[i]);
}
