using System.Globalization;
using System.Net;
using GpuTasks.Gateway.Signing;

namespace GpuTasks.Gateway.Tests;

/// <summary>Accounts, keys, limits and the log of changes.</summary>
public sealed class AccountTests : IAsyncLifetime
{
    private const string Functions = "/2023-03-30/functions";
    private GatewayServer server = null!;

    public async ValueTask InitializeAsync() => server = await GatewayServer.StartAsync();

    public ValueTask DisposeAsync() => server.DisposeAsync();

    [Fact]
    public async Task A_made_account_works_with_both_kinds_of_keys_and_sees_only_its_own()
    {
        await server.CreateAsync("theirs");
        Assert.Equal("acme", (await OperatorAsync("POST", "/v1/accounts", """{"accountId":"acme","name":"Acme"}""")).Json.GetProperty("accountId").GetString());
        (await OperatorAsync("POST", "/v1/accounts", """{"accountId":"acme"}""")).Is(409, "AccountAlreadyExists");
        var access = (await OperatorAsync("POST", "/v1/accounts/acme/keys", """{"kind":"access"}""")).Json;
        var api = (await OperatorAsync("POST", "/v1/accounts/acme/keys", """{"kind":"api"}""")).Json.GetProperty("apiKey").GetString()!;
        var (id, secret) = (access.GetProperty("keyId").GetString()!, access.GetProperty("secret").GetString()!);
        Assert.Equal(HttpStatusCode.OK, (await server.SignedAsync("POST", Functions, GatewayServer.Function("mine"), id, secret)).Status);
        var seen = (await server.CallAsync("GET", Functions, key: api)).Json.GetProperty("functions");
        Assert.Equal("mine", Assert.Single(seen.EnumerateArray()).GetProperty("functionName").GetString());
        (await server.CallAsync("GET", $"{Functions}/theirs", key: api)).Is(404, "FunctionNotFound");

        // What is shown later has neither secret nor key, nor their hash.
        var shown = (await OperatorAsync("GET", "/v1/accounts/acme")).Text;
        Assert.DoesNotContain(secret, shown, StringComparison.Ordinal);
        Assert.DoesNotContain(api, shown, StringComparison.Ordinal);
        Assert.DoesNotContain(Acs3Signature.Hash(System.Text.Encoding.UTF8.GetBytes(api)), shown, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_rotated_key_works_beside_the_new_one_until_its_time_is_over()
    {
        await OperatorAsync("POST", "/v1/accounts", """{"accountId":"acme"}""");
        var old = (await OperatorAsync("POST", "/v1/accounts/acme/keys", """{"kind":"api"}""")).Json;
        var oldKey = old.GetProperty("apiKey").GetString()!;
        var rotated = await OperatorAsync("POST", $"/v1/accounts/acme/keys/{old.GetProperty("keyId").GetString()}/rotate", """{"overlapSeconds":3600}""");
        var newKey = rotated.Json.GetProperty("apiKey").GetString()!;
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("GET", Functions, key: oldKey)).Status);
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("GET", Functions, key: newKey)).Status);
        server.Clock.Offset = TimeSpan.FromHours(2);
        (await server.CallAsync("GET", Functions, key: oldKey)).Is(403, "InvalidAccessKeyID");
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("GET", Functions, key: newKey)).Status);
    }

    [Fact]
    public async Task What_is_disabled_opens_nothing_and_can_be_enabled_again()
    {
        await OperatorAsync("POST", "/v1/accounts", """{"accountId":"acme"}""");
        var made = (await OperatorAsync("POST", "/v1/accounts/acme/keys", """{"kind":"api"}""")).Json;
        var (id, key) = (made.GetProperty("keyId").GetString()!, made.GetProperty("apiKey").GetString()!);
        await OperatorAsync("PUT", $"/v1/accounts/acme/keys/{id}", """{"disabled":true}""");
        (await server.CallAsync("GET", Functions, key: key)).Is(403, "InvalidAccessKeyID");
        await OperatorAsync("PUT", $"/v1/accounts/acme/keys/{id}", """{"disabled":false}""");
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("GET", Functions, key: key)).Status);
        await OperatorAsync("PUT", "/v1/accounts/acme", """{"disabled":true}""");
        (await server.CallAsync("GET", Functions, key: key)).Is(403, "AccessDenied");
        Assert.Equal(HttpStatusCode.NoContent, (await OperatorAsync("DELETE", $"/v1/accounts/acme/keys/{id}")).Status);
        (await server.CallAsync("GET", Functions, key: key)).Is(403, "InvalidAccessKeyID");

        // Also an account that only the keys file knows.
        await OperatorAsync("PUT", $"/v1/accounts/{GatewayServer.Account}", """{"disabled":true}""");
        (await server.CallAsync("GET", Functions)).Is(403, "AccessDenied");
        (await server.SignedAsync("GET", Functions)).Is(403, "AccessDenied");
    }

    [Fact]
    public async Task Only_the_operator_reaches_accounts()
    {
        foreach (var (method, path) in new[] { ("GET", "/v1/accounts"), ("POST", "/v1/accounts"), ("GET", "/v1/accounts/a"), ("PUT", "/v1/accounts/a"), ("POST", "/v1/accounts/a/keys") })
        {
            (await server.CallAsync(method, path, method == "GET" ? null : "{}")).Is(403, "AccessDenied");
        }
    }

    [Fact]
    public async Task An_account_past_its_limit_is_asked_to_come_back()
    {
        await OperatorAsync("PUT", $"/v1/accounts/{GatewayServer.Account}", """{"requestsPerSecond":1,"requestBurst":3}""");
        var answers = await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => server.CallAsync("GET", Functions)));
        Assert.Contains(answers, answer => answer.Status == HttpStatusCode.OK);
        var refused = answers.First(answer => answer.Status != HttpStatusCode.OK);
        refused.Is(429, "ResourceThrottled");
        Assert.InRange(int.Parse(refused.Headers["Retry-After"], CultureInfo.InvariantCulture), 1, 2);
        Assert.InRange(int.Parse(refused.Headers["x-acs-retry-after"], CultureInfo.InvariantCulture), 1, 2_000);
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("GET", Functions, key: GatewayServer.OtherApiKey)).Status);
        await OperatorAsync("PUT", $"/v1/accounts/{GatewayServer.Account}", """{"requestsPerSecond":0}""");
        Assert.Equal(HttpStatusCode.OK, (await server.CallAsync("GET", Functions)).Status);
    }

    [Fact]
    public async Task Changes_are_logged_and_readings_and_refusals_are_not()
    {
        var made = await server.SignedAsync("POST", Functions, GatewayServer.Function("f"));
        await server.CallAsync("GET", $"{Functions}/f");
        (await server.CallAsync("POST", Functions, GatewayServer.Function("f"))).Is(409, "FunctionAlreadyExists");
        await server.CallAsync("DELETE", $"{Functions}/f");
        await OperatorAsync("PUT", $"/v1/accounts/{GatewayServer.Account}", """{"name":"x"}""");
        var page = (await server.CallAsync("GET", "/v1/audit")).Json.GetProperty("entries").EnumerateArray().ToList();
        Assert.Equal(["UpdateAccount", "DeleteFunction", "CreateFunction"], page.Select(entry => entry.GetProperty("action").GetString()));
        var first = page[^1];
        Assert.Equal($"access-key {GatewayServer.AccessKey}", first.GetProperty("actor").GetString());
        Assert.Equal(made.Headers["X-Fc-Request-Id"], first.GetProperty("requestId").GetString());
        Assert.Equal("127.0.0.1", first.GetProperty("source").GetString());
        Assert.Equal("operator", page[0].GetProperty("actor").GetString());
        Assert.Equal($"{Functions}/f", page[1].GetProperty("resource").GetString());
        Assert.Empty((await server.CallAsync("GET", "/v1/audit", key: GatewayServer.OtherApiKey)).Json.GetProperty("entries").EnumerateArray());
        var next = (await OperatorAsync("GET", "/v1/audit?limit=2")).Json.GetProperty("nextToken").GetString();
        Assert.Single((await OperatorAsync("GET", $"/v1/audit?limit=2&nextToken={next}")).Json.GetProperty("entries").EnumerateArray());
    }

    [Fact]
    public async Task A_nonce_of_a_change_serves_once_over_all_gateways()
    {
        await using var other = await GatewayServer.StartAsync(server.Platform);
        var (nonce, date) = (Guid.NewGuid().ToString("N"), DateTimeOffset.UtcNow);
        Assert.Equal(HttpStatusCode.OK, (await server.SignedAsync("POST", Functions, GatewayServer.Function("once"), nonce: nonce, date: date)).Status);
        (await other.SignedAsync("POST", Functions, GatewayServer.Function("again"), nonce: nonce, date: date)).Is(403, "SignatureNotMatch");
    }

    [Fact]
    public async Task The_older_signature_is_served_unless_it_is_switched_off()
    {
        Assert.Equal(HttpStatusCode.OK, (await OlderAsync(server, GatewayServer.Secret)).Status);
        (await OlderAsync(server, "another-secret-0000")).Is(403, "SignatureNotMatch");
        (await OlderAsync(server, GatewayServer.Secret, DateTimeOffset.UtcNow - TimeSpan.FromHours(1))).Is(403, "SignatureNotMatch");
        await using var strict = await GatewayServer.StartAsync(("AllowOlderSignature", "false"));
        (await OlderAsync(strict, GatewayServer.Secret)).Is(400, "InvalidArgument");
    }

    [Fact]
    public async Task A_bearer_token_may_come_in_the_header_of_sdks()
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, Functions);
        Assert.Equal(HttpStatusCode.OK, (await server.SendAsync(request, null,
            ("x-acs-bearer-token", GatewayServer.ApiKey), ("x-acs-signature-type", "BEARERTOKEN"))).Status);
        using var unknown = new HttpRequestMessage(HttpMethod.Get, Functions);
        (await server.SendAsync(unknown, null, ("x-acs-bearer-token", "nobody-has-this"))).Is(403, "InvalidAccessKeyID");
    }

    private static async Task<Answer> OlderAsync(GatewayServer server, string secret, DateTimeOffset? date = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"{Functions}?limit=3&prefix=a%20b");
        var dateText = (date ?? DateTimeOffset.UtcNow).ToString("r", CultureInfo.InvariantCulture);
        var acs = new Dictionary<string, string>
        {
            ["x-acs-signature-method"] = "HMAC-SHA1",
            ["x-acs-signature-nonce"] = Guid.NewGuid().ToString("N"),
            ["x-acs-version"] = "2023-03-30",
        };

        // Written out, so that the text is not made by what it tests.
        var text = $"GET\napplication/json\n\n\n{dateText}\n" + string.Concat(acs.OrderBy(pair => pair.Key, StringComparer.Ordinal).Select(pair => $"{pair.Key}:{pair.Value}\n"))
            + $"{Functions}?limit=3&prefix=a b";
        return await server.SendAsync(request, null,
        [
            ("accept", "application/json"), ("date", dateText), .. acs.Select(pair => (pair.Key, pair.Value)),
            ("Authorization", $"acs {GatewayServer.AccessKey}:{AcsSignature.Sign(secret, text)}"),
        ]);
    }

    private Task<Answer> OperatorAsync(string method, string path, string? body = null) => server.CallAsync(method, path, body, GatewayServer.OperatorKey);
}
