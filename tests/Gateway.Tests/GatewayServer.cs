using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using GpuTasks.Gateway.Signing;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace GpuTasks.Gateway.Tests;

/// <summary>The real gateway on a real port before a platform in memory.</summary>
internal sealed class GatewayServer : IAsyncDisposable
{
    public const string Account = "1000000000000001";
    public const string OtherAccount = "1000000000000002";
    public const string AccessKey = "LTAItestAccessKeyId";
    public const string Secret = "testAccessKeySecret000000000000";
    public const string ApiKey = "demo-api-key";
    public const string OtherApiKey = "other-api-key";
    public const string OperatorKey = "operator-key-0001";

    public const string Keys = $$"""
        {
          "operatorKey": "{{OperatorKey}}",
          "accounts": [
            { "id": "{{Account}}", "name": "demo", "accessKeys": [{ "id": "{{AccessKey}}", "secret": "{{Secret}}" }], "apiKeys": ["{{ApiKey}}"] },
            { "id": "{{OtherAccount}}", "name": "other", "apiKeys": ["{{OtherApiKey}}"] }
          ]
        }
        """;

    private readonly WebApplication app;
    private readonly string folder;

    private GatewayServer(WebApplication app, FakePlatform platform, ShiftedClock clock, string folder)
    {
        this.app = app;
        this.folder = folder;
        Platform = platform;
        Clock = clock;
        Url = new Uri(app.Urls.First(url => url.StartsWith("http://127.", StringComparison.Ordinal)));
        Http = new HttpClient { BaseAddress = Url };
    }

    public FakePlatform Platform { get; }

    public ShiftedClock Clock { get; }

    public Uri Url { get; }

    public HttpClient Http { get; }

    public string KeysFile => Path.Combine(folder, "keys.json");

    /// <summary>Where it listens too: connections there use up no ports.</summary>
    public string SocketFile => Path.Combine(folder, "socket");

    public IServiceProvider Services => app.Services;

    public static Task<GatewayServer> StartAsync(params (string Key, string Value)[] settings) => StartAsync(new FakePlatform(), settings);

    /// <summary>A gateway before a platform that others may have too.</summary>
    public static async Task<GatewayServer> StartAsync(FakePlatform platform, params (string Key, string Value)[] settings)
    {
        var folder = Directory.CreateTempSubdirectory("gateway-tests-").FullName;
        var keysFile = Path.Combine(folder, "keys.json");
        await File.WriteAllTextAsync(keysFile, Keys);
        var clock = new ShiftedClock();
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.Configuration.AddInMemoryCollection(
        [
            new("GpuTasks:Gateway:KeysFile", keysFile),
            .. settings.Select(setting => KeyValuePair.Create($"GpuTasks:Gateway:{setting.Key}", (string?)setting.Value)),
        ]);
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(IPAddress.Loopback, 0);
            kestrel.ListenUnixSocket(Path.Combine(folder, "socket"));
        });
        builder.Services.AddSingleton<TimeProvider>(clock);
        builder.Services.AddSingleton<IGrainFactory>(new FakeGrainFactory(platform));
        builder.Services.AddGpuTasksGateway(builder.Configuration);
        var app = builder.Build();
        app.UseOperatorKey("/dashboard");
        app.MapGet("/dashboard", () => "the dashboard");
        app.MapGet("/breaks", string () => throw new InvalidOperationException("secret detail"));
        app.MapGpuTasksGateway();
        await app.StartAsync();
        return new GatewayServer(app, platform, clock, folder);
    }

    /// <summary>Calls with a bearer key.</summary>
    public async Task<Answer> CallAsync(string method, string path, string? body = null, string key = ApiKey, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), path);
        request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", key);
        return await SendAsync(request, body is null ? null : Encoding.UTF8.GetBytes(body), headers);
    }

    /// <summary>Calls with a signature, as SDKs do.</summary>
    public async Task<Answer> SignedAsync(
        string method, string pathAndQuery, string? body = null, string accessKey = AccessKey, string secret = Secret,
        Action<HttpRequestMessage>? tamper = null, DateTimeOffset? date = null, string? nonce = null, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), pathAndQuery);
        var bytes = Encoding.UTF8.GetBytes(body ?? "");
        var hash = Acs3Signature.Hash(bytes);
        SortedDictionary<string, string> signed = new(StringComparer.Ordinal)
        {
            ["host"] = Url.Authority,
            ["x-acs-action"] = "Test",
            ["x-acs-content-sha256"] = hash,
            ["x-acs-date"] = (date ?? DateTimeOffset.UtcNow).UtcDateTime.ToString("yyyy-MM-ddTHH:mm:ssZ", System.Globalization.CultureInfo.InvariantCulture),
            ["x-acs-signature-nonce"] = nonce ?? Guid.NewGuid().ToString("N"),
            ["x-acs-version"] = "2023-03-30",
        };
        var parts = pathAndQuery.Split('?', 2);
        var canonical = Acs3Signature.CanonicalRequest(method, parts[0], parts.ElementAtOrDefault(1) ?? "", [.. signed], hash);
        foreach (var (name, value) in signed.Where(header => header.Key != "host"))
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        request.Headers.TryAddWithoutValidation("Authorization",
            $"{Acs3Signature.Scheme} Credential={accessKey},SignedHeaders={string.Join(';', signed.Keys)},Signature={Acs3Signature.Sign(secret, canonical)}");
        tamper?.Invoke(request);
        return await SendAsync(request, body is null ? null : bytes, headers);
    }

    public async Task<Answer> SendAsync(HttpRequestMessage request, byte[]? body, params (string Name, string Value)[] headers)
    {
        if (body is not null)
        {
            request.Content = new ByteArrayContent(body);
        }

        foreach (var (name, value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value);
        }

        using var response = await Http.SendAsync(request);
        return await Answer.ReadAsync(response);
    }

    /// <summary>A small valid function.</summary>
    public static string Function(string name, string more = "") =>
        $$"""{"functionName":"{{name}}","runtime":"custom-container","handler":"h","customContainerConfig":{"image":"echo:latest"}{{more}}}""";

    /// <summary>Creates a function, in task mode unless said otherwise.</summary>
    public async Task CreateAsync(string name, bool taskMode = true, string key = ApiKey)
    {
        Assert.Equal(HttpStatusCode.OK, (await CallAsync("POST", "/2023-03-30/functions", Function(name), key)).Status);
        if (taskMode)
        {
            var put = await CallAsync("PUT", $"/2023-03-30/functions/{name}/async-invoke-config", """{"asyncTask":true}""", key);
            Assert.Equal(HttpStatusCode.OK, put.Status);
        }
    }

    public async ValueTask DisposeAsync()
    {
        Http.Dispose();
        await app.StopAsync();
        await app.DisposeAsync();
        Directory.Delete(folder, recursive: true);
    }
}

/// <summary>The wall clock with an offset, so that dates can be judged without waiting.</summary>
internal sealed class ShiftedClock : TimeProvider
{
    public TimeSpan Offset { get; set; }

    public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + Offset;
}

/// <summary>An answer, read whole. Whatever comes back, what the contract promises of every answer is checked here.</summary>
internal sealed record Answer(HttpStatusCode Status, string Text, IReadOnlyDictionary<string, string> Headers, string? ContentType)
{
    public string? Code => Json.TryGetProperty(nameof(Code), out var code) ? code.GetString() : null;

    public string? Message => Json.TryGetProperty(nameof(Message), out var message) ? message.GetString() : null;

    public JsonElement Json => JsonDocument.Parse(Text).RootElement;

    public static async Task<Answer> ReadAsync(HttpResponseMessage response)
    {
        var text = await response.Content.ReadAsStringAsync();
        var headers = response.Headers.Concat(response.Content.Headers)
            .ToDictionary(header => header.Key, header => string.Join(",", header.Value), StringComparer.OrdinalIgnoreCase);
        var answer = new Answer(response.StatusCode, text, headers, response.Content.Headers.ContentType?.MediaType);
        Assert.NotEmpty(headers["X-Fc-Request-Id"]);
        Assert.False(headers.ContainsKey("Content-Encoding"));
        if ((int)response.StatusCode >= 400)
        {
            Assert.Equal("application/json", answer.ContentType);
            Assert.NotEmpty(answer.Code!);
            Assert.NotEmpty(answer.Message!);
            Assert.Equal(headers["X-Fc-Request-Id"], answer.Json.GetProperty("RequestId").GetString());
        }

        return answer;
    }

    public void Is(int status, string code)
    {
        Assert.True((int)Status == status && Code == code, $"expected {status} {code}, got {(int)Status} {Text}");
    }
}
