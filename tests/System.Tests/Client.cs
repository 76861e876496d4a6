using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;

namespace GpuTasks.SystemTests;

/// <summary>An answer: status and body, the body as JSON where it is JSON.</summary>
internal sealed record Answer(HttpStatusCode Status, string Text, HttpResponseHeaders Headers)
{
    public JsonNode Json => JsonNode.Parse(Text)!;

    /// <summary>The error code of the contract.</summary>
    public string Code => (string)Json[nameof(Code)]!;
}

/// <summary>A task as GetAsyncTask shows it.</summary>
internal sealed record SeenTask(JsonNode Json)
{
    public string Id => (string)Json["taskId"]!;

    public string Status => (string)Json["status"]!;

    public string Error => (string)Json["taskErrorMessage"]!;

    public string Result => (string?)Json["returnPayload"] ?? "";

    public string Instance => (string)Json["instanceId"]!;

    public int Retries => (int)Json["alreadyRetriedTimes"]!;

    public TimeSpan Ran => TimeSpan.FromMilliseconds((long)Json["durationMs"]!);

    /// <summary>When it ended, in milliseconds of Unix time; 0 before.</summary>
    public long EndedAt => (long)Json["endTime"]!;

    public bool IsFinal => Status is "Succeeded" or "Failed" or "Stopped" or "Expired" or "Invalid";

    public IEnumerable<string> Events => Json["events"]!.AsArray().Select(e => (string)e!["status"]!);

    public override string ToString() => Json.ToJsonString();
}

/// <summary>The HTTP interface as a caller with an API key sees it.</summary>
internal sealed class Client : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private readonly HttpClient http;

    public Client(Uri address, string key, TimeSpan? timeout = null)
    {
        Address = address;
        http = new HttpClient { BaseAddress = address, Timeout = timeout ?? TimeSpan.FromMinutes(2) };
        http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
    }

    /// <summary>Where the gateway is.</summary>
    public Uri Address { get; }

    /// <summary>True repeats calls that find the platform away, as callers of a cluster do while it loses a part.</summary>
    public bool Patient { get; init; }

    public async Task<HttpStatusCode> StatusOfAsync(string path) => (await SendAsync(HttpMethod.Get, path)).Status;

    /// <summary>Any call; paths that do not start with a slash are of the contract.</summary>
    public async Task<Answer> SendAsync(HttpMethod method, string path, byte[]? body = null, params (string Name, string Value)[] headers)
    {
        for (var giveUpAt = DateTime.UtcNow + Patience; Patient && DateTime.UtcNow < giveUpAt; await Task.Delay(250))
        {
            try
            {
                if (await SendOnceAsync(method, path, body, headers) is { Status: not HttpStatusCode.ServiceUnavailable } answer)
                {
                    return answer;
                }
            }
            catch (HttpRequestException)
            {
                // Its gateway is being started again.
            }
        }

        return await SendOnceAsync(method, path, body, headers);
    }

    private async Task<Answer> SendOnceAsync(HttpMethod method, string path, byte[]? body, (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, new Uri(path.StartsWith('/') ? path : $"/2023-03-30/{path}", UriKind.Relative));
        if (body is not null)
        {
            request.Content = new ByteArrayContent(body);
        }

        foreach (var (name, value) in headers)
        {
            request.Headers.Add(name, value);
        }

        using var response = await http.SendAsync(request);
        return new Answer(response.StatusCode, await response.Content.ReadAsStringAsync(), response.Headers);
    }

    public Task<Answer> SendJsonAsync(HttpMethod method, string path, JsonNode body) => SendAsync(method, path, Encoding.UTF8.GetBytes(body.ToJsonString()));

    /// <summary>Creates a function of the echo image with a whole small card, task mode on.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="retries">Further attempts after a counted failure.</param>
    /// <param name="environment">Its environment.</param>
    /// <param name="change">Changes the definition before it is sent.</param>
    public async Task CreateEchoAsync(string name, int retries = 0, (string Name, string Value)[]? environment = null, Action<JsonObject>? change = null)
    {
        var definition = new JsonObject
        {
            ["functionName"] = name,
            ["runtime"] = "custom-container",
            ["handler"] = "index.handler",
            ["cpu"] = 0.5,
            ["memorySize"] = 128,
            ["timeout"] = 60,
            ["idleTimeout"] = 60,
            ["gpuConfig"] = new JsonObject { ["gpuType"] = "fc.gpu.tesla.1", ["gpuMemorySize"] = 16384 },
            ["environmentVariables"] = new JsonObject((environment ?? []).Select(variable => KeyValuePair.Create(variable.Name, (JsonNode?)variable.Value))),
            ["customContainerConfig"] = new JsonObject { ["image"] = Machine.EchoImage, ["port"] = 9000 },
        };
        change?.Invoke(definition);
        var created = await SendJsonAsync(HttpMethod.Post, "functions", definition);
        Assert.True(created.Status == HttpStatusCode.OK || (Patient && created.Status == HttpStatusCode.Conflict), created.Text);
        var configured = await SendJsonAsync(HttpMethod.Put, $"functions/{name}/async-invoke-config", new JsonObject { ["asyncTask"] = true, ["maxAsyncRetryAttempts"] = retries });
        Assert.True(configured.Status == HttpStatusCode.OK, configured.Text);
    }

    public Task<Answer> SubmitAsync(string function, string id, string ask) =>
        SendAsync(HttpMethod.Post, $"functions/{function}/invocations", Encoding.UTF8.GetBytes(ask), ("x-fc-invocation-type", "Async"), ("x-fc-async-task-id", id));

    /// <summary>Submits a task that must be accepted.</summary>
    public async Task AcceptedAsync(string function, string id, string ask)
    {
        var answer = await SubmitAsync(function, id, ask);
        if (Patient && answer.Status == HttpStatusCode.Conflict)
        {
            return; // The answer to an earlier try was lost.
        }

        Assert.True(answer.Status == HttpStatusCode.Accepted, answer.Text);
        Assert.Equal(id, answer.Headers.GetValues("x-fc-async-task-id").Single());
    }

    public async Task<SeenTask> GetTaskAsync(string function, string id)
    {
        var answer = await SendAsync(HttpMethod.Get, $"functions/{function}/async-tasks/{id}");
        Assert.True(answer.Status == HttpStatusCode.OK, answer.Text);
        return new SeenTask(answer.Json);
    }

    /// <summary>Waits for a status of a task, or for any final one with <paramref name="status"/> null.</summary>
    public Task<SeenTask> UntilAsync(string function, string id, string? status = null, TimeSpan? patience = null) =>
        Eventually.ComesAsync($"{status ?? "the end"} of {id}", patience ?? Patience, () => GetTaskAsync(function, id), task => status is null ? task.IsFinal : task.Status == status);

    public Task<Answer> StopAsync(string function, string id) => SendAsync(HttpMethod.Put, $"functions/{function}/async-tasks/{id}/stop");

    /// <summary>All tasks of a function, page by page.</summary>
    public async Task<List<SeenTask>> ListAsync(string function, string filter = "")
    {
        var found = new List<SeenTask>();
        for (var token = ""; ;)
        {
            var answer = await SendAsync(HttpMethod.Get, $"functions/{function}/async-tasks?limit=100&nextToken={Uri.EscapeDataString(token)}{filter}");
            Assert.True(answer.Status == HttpStatusCode.OK, answer.Text);
            found.AddRange(answer.Json["tasks"]!.AsArray().Select(task => new SeenTask(task!)));
            token = (string?)answer.Json["nextToken"] ?? "";
            if (token.Length == 0)
            {
                return found;
            }
        }
    }

    public async Task<(long Waiting, long Running, long Done)> CountsAsync(string function)
    {
        var answer = await SendAsync(HttpMethod.Get, $"/v1/functions/{function}/counts");
        Assert.True(answer.Status == HttpStatusCode.OK, answer.Text);
        return ((long)answer.Json["waiting"]!, (long)answer.Json["running"]!, (long)answer.Json["done"]!);
    }

    /// <summary>What a task printed, from a byte on.</summary>
    public Task<Answer> LogsAsync(string function, string id, long cursor = 0) =>
        SendAsync(HttpMethod.Get, $"/v1/functions/{function}/tasks/{id}/logs?cursor={cursor.ToString(CultureInfo.InvariantCulture)}");

    /// <summary>Waits until the function has begun with a task, which is Running before its run is ordered.</summary>
    public Task BegunAsync(string function, string id) => Eventually.ComesAsync(
        $"the run of {id}", Patience, () => LogsAsync(function, id), log => log.Text.Contains("Invoke Start", StringComparison.Ordinal));

    public async Task DeleteAsync(string function)
    {
        var answer = await SendAsync(HttpMethod.Delete, $"functions/{function}");
        Assert.True(answer.Status is HttpStatusCode.OK or HttpStatusCode.NoContent, answer.Text);
    }

    public void Dispose() => http.Dispose();
}
