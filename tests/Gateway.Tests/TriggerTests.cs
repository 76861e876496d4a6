using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using GpuTasks.Nodes;
using GpuTasks.Tasks;
using Microsoft.IdentityModel.JsonWebTokens;
using Microsoft.IdentityModel.Tokens;

namespace GpuTasks.Gateway.Tests;

/// <summary>The trigger operations, and requests that an HTTP trigger hands on.</summary>
public sealed class TriggerTests : IAsyncLifetime
{
    private const string Triggers = "/2023-03-30/functions/f/triggers";
    private GatewayServer server = null!;

    public async ValueTask InitializeAsync()
    {
        server = await GatewayServer.StartAsync();
        await server.CreateAsync("f");
    }

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public async Task A_timer_lives_through_its_operations()
    {
        var made = await CreateAsync("t", "timer", """{"cronExpression":"@every 60m","enable":false,"payload":"hello"}""", ",\"description\":\"d\"");
        Assert.Equal(HttpStatusCode.OK, made.Status);
        Assert.Equal("""{"cronExpression":"@every 60m","enable":false,"payload":"hello"}""", made.Json.GetProperty("triggerConfig").GetString());
        Assert.Equal("LATEST", made.Json.GetProperty("qualifier").GetString());
        Assert.Equal($"acs:fc:local-1:{GatewayServer.Account}:functions/f/LATEST", made.Json.GetProperty("targetArn").GetString());
        (await CreateAsync("t", "timer", """{"cronExpression":"@every 60m"}""")).Is(409, "TriggerAlreadyExists");
        var changed = await server.CallAsync("PUT", $"{Triggers}/t", Body("""{"cronExpression":"CRON_TZ=Asia/Shanghai 0 0 4 * * *","enable":true}"""));
        Assert.Equal("d", changed.Json.GetProperty("description").GetString());
        Assert.True((await server.CallAsync("GET", "/v1/functions/f/triggers/t")).Json.GetProperty("nextAt").GetInt64() > 0);
        await CreateAsync("u", "timer", """{"cronExpression":"0 0 4 * * *"}""");
        var page = (await server.CallAsync("GET", $"{Triggers}?limit=1")).Json;
        Assert.Equal("t", Assert.Single(page.GetProperty("triggers").EnumerateArray()).GetProperty("triggerName").GetString());
        var next = (await server.CallAsync("GET", $"{Triggers}?limit=1&nextToken={page.GetProperty("nextToken").GetString()}")).Json;
        Assert.Equal("u", Assert.Single(next.GetProperty("triggers").EnumerateArray()).GetProperty("triggerName").GetString());
        Assert.Equal(HttpStatusCode.NoContent, (await server.CallAsync("DELETE", $"{Triggers}/t")).Status);
        (await server.CallAsync("GET", $"{Triggers}/t")).Is(404, "TriggerNotFound");
        (await server.CallAsync("DELETE", $"{Triggers}/t")).Is(404, "TriggerNotFound");
        (await server.CallAsync("GET", "/2023-03-30/functions/none/triggers")).Is(404, "FunctionNotFound");
        (await server.CallAsync("GET", Triggers, key: GatewayServer.OtherApiKey)).Is(404, "FunctionNotFound");
    }

    [Theory]
    [InlineData("timer", """{"cronExpression":"@every 0s"}""", "cronExpression")]
    [InlineData("timer", """{"cronExpression":"0 0 25 * * *"}""", "cronExpression")]
    [InlineData("timer", """{}""", "cronExpression")]
    [InlineData("timer", """{"cronExpression":"@every 5m","enable":"yes"}""", "enable")]
    [InlineData("timer", "no json", "triggerConfig")]
    [InlineData("timer", "[]", "triggerConfig")]
    [InlineData("http", """{"authType":"anonymous"}""", "methods")]
    [InlineData("http", """{"authType":"anonymous","methods":["GO"]}""", "methods")]
    [InlineData("http", """{"authType":"magic","methods":["GET"]}""", "authType")]
    [InlineData("http", """{"authType":"jwt","methods":["GET"]}""", "authConfig")]
    [InlineData("http", """{"authType":"jwt","methods":["GET"],"authConfig":"{\"jwks\":{\"keys\":[]}}"}""", "jwks")]
    [InlineData("http", """{"authType":"jwt","methods":["GET"],"authConfig":"{\"jwks\":{\"keys\":[{\"kty\":\"RSA\",\"n\":\"!\",\"e\":\"!\"}]}}"}""", "jwks")]
    [InlineData("oss", "{}", "triggerType")]
    public async Task A_faulty_trigger_is_refused_with_the_field_named(string type, string config, string field)
    {
        var answer = await CreateAsync("bad", type, config);
        answer.Is(400, "InvalidArgument");
        Assert.Contains(field, answer.Message!, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_qualifier_has_one_http_trigger()
    {
        var made = await CreateAsync("web", "http", """{"authType":"anonymous","methods":["GET"]}""");
        Assert.Equal($"{server.Url.GetLeftPart(UriPartial.Authority)}/http/{GatewayServer.Account}/f/web", made.Json.GetProperty("httpTrigger").GetProperty("urlInternet").GetString());
        (await CreateAsync("web2", "http", """{"authType":"anonymous","methods":["GET"]}""")).Is(409, "TriggerAlreadyExists");
    }

    [Fact]
    public async Task A_request_is_handed_on_as_it_came_and_its_answer_back()
    {
        await CreateAsync("web", "http", """{"authType":"anonymous","methods":["POST"]}""");
        RunOrder? seen = null;
        server.Platform.Run = order =>
        {
            seen = order;
            return Report(order, 418, "short", new HttpField("Set-Cookie", "a=1"), new HttpField("Set-Cookie", "b=2"), new HttpField("x-fc-status", "1"), new HttpField("X-Own", "yes"));
        };
        using var request = new HttpRequestMessage(HttpMethod.Post, $"{Url("web")}/a%2Fb/c?x=1&y=%20");
        request.Content = new ByteArrayContent([0, 1, 255]);
        request.Headers.TryAddWithoutValidation("X-Mine", "1");
        request.Headers.TryAddWithoutValidation("x-fc-account-id", "someone-else");
        request.Headers.TryAddWithoutValidation("Cookie", "k=v");
        using var answer = await server.Http.SendAsync(request, TestContext.Current.CancellationToken);
        Assert.Equal(418, (int)answer.StatusCode);
        Assert.Equal("short", await answer.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
        Assert.Equal(["a=1", "b=2"], answer.Headers.GetValues("Set-Cookie"));
        Assert.Equal("yes", Assert.Single(answer.Headers.GetValues("X-Own")));
        Assert.False(answer.Headers.Contains("x-fc-status"));
        Assert.Equal(("POST", "/a%2Fb/c?x=1&y=%20", $"/http/{GatewayServer.Account}/f/web"), (seen!.Http!.Method, seen.Http.Target, seen.Http.BasePath));
        Assert.Equal([0, 1, 255], seen.Payload);
        Assert.Contains(seen.Http.Headers, field => field is { Name: "X-Mine", Value: "1" });
        Assert.Contains(seen.Http.Headers, field => field is { Name: "Cookie", Value: "k=v" });
        Assert.DoesNotContain(seen.Http.Headers, field => field.Name.StartsWith("x-fc-", StringComparison.OrdinalIgnoreCase));
        Assert.DoesNotContain(seen.Http.Headers, field => field.Name.Equals("host", StringComparison.OrdinalIgnoreCase));
    }

    [Fact]
    public async Task A_body_of_unknown_length_follows_its_order_and_the_answer_leaves_while_it_is_made()
    {
        await CreateAsync("web", "http", """{"authType":"anonymous","methods":["POST"]}""");
        Stream();
        var goesOn = new TaskCompletionSource();
        server.Platform.Answer = async (order, from, cancellationToken) =>
        {
            if (from < 0)
            {
                return new AnswerPart { Head = new AnswerHead { StatusCode = 206, Headers = [new HttpField("X-Own", "yes"), new HttpField("Content-Length", "11")] }, Data = "hello"u8.ToArray() };
            }

            await goesOn.Task.WaitAsync(cancellationToken);

            // What was handed back already comes once more.
            return new AnswerPart { Report = Report(order, 206, "llo, world") with { ResponseFrom = 1 } };
        };
        using var answer = await PostAsync(new byte[2_500]);
        Assert.Equal((206, 11), ((int)answer.StatusCode, (int)answer.Content.Headers.ContentLength!));
        Assert.Equal("yes", Assert.Single(answer.Headers.GetValues("X-Own")));
        using var body = await answer.Content.ReadAsStreamAsync(TestContext.Current.CancellationToken);
        var five = new byte[5];
        await body.ReadExactlyAsync(five, TestContext.Current.CancellationToken);
        Assert.Equal("hello", Encoding.UTF8.GetString(five));
        goesOn.SetResult();
        Assert.Equal(" world", (await new StreamReader(body).ReadToEndAsync(TestContext.Current.CancellationToken))[^6..]);
        Assert.Contains("body 2500 of -1", server.Platform.Calls);
        var order = Assert.Single(server.Platform.Runs).Value;
        Assert.True(order.Streams);
        Assert.Empty(order.Payload);
    }

    [Fact]
    public async Task An_answer_that_breaks_off_does_not_look_whole_and_a_wrong_one_is_an_error()
    {
        await CreateAsync("web", "http", """{"authType":"anonymous","methods":["POST"]}""");
        Stream();
        var headCame = new TaskCompletionSource();
        server.Platform.Answer = async (order, from, cancellationToken) =>
        {
            if (from < 0)
            {
                return new AnswerPart { Head = new AnswerHead { StatusCode = 200 }, Data = [1] };
            }

            // A connection that is cut off takes with it what its other end has not read.
            await headCame.Task.WaitAsync(cancellationToken);
            return new AnswerPart { Report = Report(order, 0, "") with { Outcome = RunOutcome.Crashed } };
        };
        using (var answer = await PostAsync([]))
        {
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
            headCame.SetResult();
            await Assert.ThrowsAnyAsync<HttpRequestException>(() => answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken));
        }

        server.Platform.Answer = (order, _, _) => Task.FromResult(new AnswerPart { Report = Report(order, 0, "") with { Outcome = RunOutcome.TimedOut, Message = "late" } });
        (await SendAsync("POST", "web")).Is(504, "FunctionTimeout");
        server.Platform.Answer = (_, _, _) => Task.FromResult(new AnswerPart { Head = new AnswerHead { StatusCode = 99 } });
        (await SendAsync("POST", "web")).Is(502, "UnhandledInvocationError");
        Assert.Contains(server.Platform.Calls, call => call.StartsWith("cancel ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task An_instance_that_cannot_stream_gets_the_body_whole_or_not_at_all()
    {
        await CreateAsync("web", "http", """{"authType":"anonymous","methods":["POST"]}""");
        await using var small = await GatewayServer.StartAsync(server.Platform, ("MaxSyncPayloadBytes", "1000"));
        using (var answer = await PostAsync(new byte[1_000], small))
        {
            Assert.Equal(1_000, (await answer.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken)).Length);
        }

        Assert.False(Assert.Single(server.Platform.Runs).Value.Streams);
        using (var answer = await PostAsync(new byte[1_001], small))
        {
            (await Answer.ReadAsync(answer)).Is(400, "InvalidArgument");
        }

        Assert.Single(server.Platform.Runs);
    }

    [Fact]
    public async Task What_cannot_be_handed_on_is_refused_in_the_contracts_words()
    {
        await CreateAsync("web", "http", """{"authType":"anonymous","methods":["GET","POST"]}""");
        (await SendAsync("PUT", "web")).Is(405, "PathNotSupported");
        (await SendAsync("GET", "nothing")).Is(404, "TriggerNotFound");
        var upgrade = await SendAsync("GET", "web", ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x"), ("Sec-WebSocket-Version", "13"));
        upgrade.Is(400, "InvalidArgument");
        Assert.Contains("web sockets", upgrade.Message!, StringComparison.Ordinal);
        Assert.Equal("FcCommonError", upgrade.Headers["X-Fc-Error-Type"]);
        server.Platform.Run = order => Report(order, 0, "") with { Outcome = RunOutcome.Crashed, Message = "gone" };
        (await SendAsync("GET", "web")).Is(502, "UnhandledInvocationError");
        server.Platform.Run = order => Report(order, 0, "") with { Outcome = RunOutcome.TimedOut, Message = "late" };
        (await SendAsync("GET", "web")).Is(504, "FunctionTimeout");
        await using var small = await GatewayServer.StartAsync(server.Platform, ("MaxSyncPayloadBytes", "10"));
        using var request = new HttpRequestMessage(HttpMethod.Post, Url("web"));
        (await small.SendAsync(request, new byte[11])).Is(400, "InvalidArgument");
    }

    [Fact]
    public async Task A_signed_trigger_lets_in_its_own_account_alone_and_keeps_its_keys_from_the_function()
    {
        await CreateAsync("web", "http", """{"methods":["GET"]}""");
        RunOrder? seen = null;
        server.Platform.Run = order => Report(seen = order, 200, "in");
        (await SendAsync("GET", "web")).Is(400, "MissingRequiredHeader");
        (await server.CallAsync("GET", Url("web"), key: GatewayServer.OtherApiKey)).Is(403, "AccessDenied");
        (await server.SignedAsync("GET", Url("web"), secret: "wrong-secret-0000")).Is(403, "SignatureNotMatch");
        Assert.Null(seen);
        Assert.Equal("in", (await server.SignedAsync("GET", $"{Url("web")}/p?q=1")).Text);
        Assert.Equal("in", (await server.CallAsync("GET", Url("web"))).Text);
        Assert.DoesNotContain(seen!.Http!.Headers, field => field.Name.Equals("authorization", StringComparison.OrdinalIgnoreCase));
    }

    [Fact]
    public async Task A_token_lets_in_if_the_triggers_key_signed_it_and_its_claims_go_along()
    {
        using var rsa = RSA.Create(2048);
        using var stranger = RSA.Create(2048);
        var key = new RsaSecurityKey(rsa) { KeyId = "k1" };
        var parameters = rsa.ExportParameters(includePrivateParameters: false);
        var jwks = $$"""{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"k1","n":"{{Base64UrlEncoder.Encode(parameters.Modulus)}}","e":"{{Base64UrlEncoder.Encode(parameters.Exponent)}}"}]}""";
        var config = $$"""{"authType":"jwt","methods":["GET"],"authConfig":{{JsonSerializer.Serialize($$"""{"jwks":{{jwks}},"tokenLookup":"header:Authorization:Bearer,query:token","claimPassBy":"header:sub:X-User"}""")}}}""";
        Assert.Equal(HttpStatusCode.OK, (await CreateAsync("web", "http", config)).Status);
        RunOrder? seen = null;
        server.Platform.Run = order => Report(seen = order, 200, "in");
        (await SendAsync("GET", "web")).Is(401, "AccessDenied");
        (await SendAsync("GET", "web", ("Authorization", $"Bearer {Token(new RsaSecurityKey(stranger) { KeyId = "k1" }, DateTime.UtcNow.AddHours(1))}"))).Is(403, "AccessDenied");
        (await SendAsync("GET", "web", ("Authorization", $"Bearer {Token(key, DateTime.UtcNow.AddHours(-1))}"))).Is(403, "AccessDenied");
        (await SendAsync("GET", "web", ("Authorization", $"Bearer {Base64UrlEncoder.Encode("""{"alg":"none"}""")}.{Base64UrlEncoder.Encode("""{"sub":"ada","exp":99999999999}""")}."))).Is(403, "AccessDenied");
        Assert.Null(seen);
        Assert.Equal("in", (await SendAsync("GET", "web", ("Authorization", $"Bearer {Token(key, DateTime.UtcNow.AddHours(1))}"), ("X-User", "forged"))).Text);
        Assert.Equal("ada", Assert.Single(seen!.Http!.Headers, field => field.Name == "X-User").Value);
        using var byQuery = new HttpRequestMessage(HttpMethod.Get, $"{Url("web")}?token={Token(key, DateTime.UtcNow.AddHours(1))}");
        Assert.Equal("in", (await server.SendAsync(byQuery, null)).Text);
    }

    [Fact]
    public async Task An_asynchronous_request_becomes_a_task_that_hands_it_on_later()
    {
        await CreateAsync("web", "http", """{"authType":"anonymous","methods":["POST"]}""");
        var answer = await SendAsync("POST", "web", ("x-fc-invocation-type", "Async"), ("x-fc-async-task-id", "later"));
        Assert.Equal(HttpStatusCode.Accepted, answer.Status);
        Assert.Equal("later", answer.Headers["X-Fc-Async-Task-Id"]);
        Assert.Equal("POST", server.Platform.Submissions[$"{GatewayServer.Account}/f/later"].Http!.Method);
    }

    [Fact]
    public async Task Scripts_of_other_origins_are_told_what_the_config_says()
    {
        await CreateAsync("web", "http", """{"authType":"anonymous","methods":["GET"],"corsConfig":{"allowOrigins":["https://a.example"],"allowMethods":["GET"],"allowHeaders":["x-a"],"allowCredentials":true,"maxAge":60}}""");
        var preflight = await SendAsync("OPTIONS", "web", ("Origin", "https://a.example"), ("Access-Control-Request-Method", "GET"));
        Assert.Equal(HttpStatusCode.NoContent, preflight.Status);
        Assert.Equal(("https://a.example", "GET", "60"), (preflight.Headers["Access-Control-Allow-Origin"], preflight.Headers["Access-Control-Allow-Methods"], preflight.Headers["Access-Control-Max-Age"]));
        Assert.False((await SendAsync("GET", "web", ("Origin", "https://b.example"))).Headers.ContainsKey("Access-Control-Allow-Origin"));
    }

    [Fact]
    public async Task A_disabled_account_is_served_by_no_trigger()
    {
        await CreateAsync("web", "http", """{"authType":"anonymous","methods":["GET"]}""");
        await server.CallAsync("PUT", $"/v1/accounts/{GatewayServer.Account}", """{"disabled":true}""", GatewayServer.OperatorKey);
        (await SendAsync("GET", "web")).Is(403, "AccessDenied");
    }

    private static string Token(SecurityKey key, DateTime expires) => new JsonWebTokenHandler().CreateToken(new SecurityTokenDescriptor
    {
        Claims = new Dictionary<string, object> { ["sub"] = "ada" },
        NotBefore = expires.AddHours(-2),
        IssuedAt = expires.AddHours(-2),
        Expires = expires,
        SigningCredentials = new SigningCredentials(key, SecurityAlgorithms.RsaSha256),
    });

    private static RunReport Report(RunOrder order, int status, string text, params HttpField[] headers) => new()
    {
        RunId = order.RunId,
        InstanceId = order.InstanceId,
        Node = "node-1",
        Outcome = status >= 500 ? RunOutcome.FunctionError : RunOutcome.Succeeded,
        StatusCode = status,
        Response = Encoding.UTF8.GetBytes(text),
        Headers = headers,
    };

    private static string Url(string trigger) => $"/http/{GatewayServer.Account}/f/{trigger}";

    private static string Body(string config) => $$"""{"triggerConfig":{{JsonSerializer.Serialize(config)}}}""";

    private Task<Answer> CreateAsync(string name, string type, string config, string more = "") => server.CallAsync(
        "POST", Triggers, $$"""{"triggerName":"{{name}}","triggerType":"{{type}}","triggerConfig":{{JsonSerializer.Serialize(config)}}{{more}}}""");

    /// <summary>From here on there are instances that stream.</summary>
    private void Stream()
    {
        var slot = server.Platform.Acquire;
        server.Platform.Acquire = id => slot(id) with { Streams = true };
    }

    private async Task<HttpResponseMessage> PostAsync(byte[] body, GatewayServer? to = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, Url("web")) { Content = new ByteArrayContent(body) };
        request.Headers.TransferEncodingChunked = true;
        return await (to ?? server).Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken);
    }

    private async Task<Answer> SendAsync(string method, string trigger, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), Url(trigger));
        return await server.SendAsync(request, null, headers);
    }
}
