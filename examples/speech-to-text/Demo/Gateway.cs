using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;

namespace GpuTasks.Demo;

/// <summary>An answer that is not what was asked for.</summary>
internal sealed class GatewayException(string message) : Exception(message);

/// <summary>The few calls that the demonstration needs, in plain HTTP.</summary>
internal sealed class Gateway : IDisposable
{
    private readonly HttpClient http;

    public Gateway(Uri address, string apiKey)
    {
        http = new HttpClient { BaseAddress = new Uri(address, "/2023-03-30/"), Timeout = TimeSpan.FromSeconds(30) };
        http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", apiKey);
    }

    /// <summary>Creates the function or brings it up to date.</summary>
    public async Task PutFunctionAsync(string name, string definition, CancellationToken cancellationToken)
    {
        using var created = await SendAsync(HttpMethod.Post, "functions", Json(definition), cancellationToken);
        if (created.StatusCode == HttpStatusCode.Conflict)
        {
            using var updated = await SendAsync(HttpMethod.Put, $"functions/{name}", Json(definition), cancellationToken);
            await CheckAsync(updated, $"updating {name}", cancellationToken);
            return;
        }

        await CheckAsync(created, $"creating {name}", cancellationToken);
    }

    /// <summary>Sets how asynchronous calls are treated.</summary>
    public async Task PutAsyncConfigAsync(string name, string config, CancellationToken cancellationToken)
    {
        using var answer = await SendAsync(HttpMethod.Put, $"functions/{name}/async-invoke-config", Json(config), cancellationToken);
        await CheckAsync(answer, "switching task mode on", cancellationToken);
    }

    /// <summary>Submits one task under an id of ours.</summary>
    public async Task SubmitAsync(string name, string taskId, byte[] payload, CancellationToken cancellationToken)
    {
        using var body = new ByteArrayContent(payload);
        body.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
        body.Headers.Add("x-fc-invocation-type", "Async");
        body.Headers.Add("x-fc-async-task-id", taskId);
        using var answer = await SendAsync(HttpMethod.Post, $"functions/{name}/invocations", body, cancellationToken);
        await CheckAsync(answer, $"submitting {taskId}", cancellationToken);
        if (answer.StatusCode != HttpStatusCode.Accepted)
        {
            throw new GatewayException($"submitting {taskId} was answered with {(int)answer.StatusCode} instead of 202");
        }
    }

    /// <summary>The tasks whose id starts so, at most 100.</summary>
    public async Task<IReadOnlyList<TaskRecord>> ListAsync(string name, string prefix, CancellationToken cancellationToken)
    {
        using var document = await GetAsync($"functions/{name}/async-tasks?limit=100&prefix={prefix}", cancellationToken);
        return [.. document.RootElement.GetProperty("tasks").EnumerateArray().Select(TaskRecord.Read)];
    }

    /// <summary>One task with all that is known of it.</summary>
    public async Task<TaskRecord> GetTaskAsync(string name, string taskId, CancellationToken cancellationToken)
    {
        using var document = await GetAsync($"functions/{name}/async-tasks/{taskId}", cancellationToken);
        return TaskRecord.Read(document.RootElement);
    }

    public void Dispose() => http.Dispose();

    private static StringContent Json(string text) => new(text, Encoding.UTF8, "application/json");

    private static async Task CheckAsync(HttpResponseMessage answer, string doing, CancellationToken cancellationToken)
    {
        if (!answer.IsSuccessStatusCode)
        {
            throw new GatewayException($"{doing} was refused with {(int)answer.StatusCode}: {await answer.Content.ReadAsStringAsync(cancellationToken)}");
        }
    }

    private async Task<JsonDocument> GetAsync(string path, CancellationToken cancellationToken)
    {
        using var answer = await SendAsync(HttpMethod.Get, path, null, cancellationToken);
        await CheckAsync(answer, $"reading {path}", cancellationToken);
        return JsonDocument.Parse(await answer.Content.ReadAsStringAsync(cancellationToken));
    }

    private async Task<HttpResponseMessage> SendAsync(HttpMethod method, string path, HttpContent? body, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(method, new Uri(path, UriKind.Relative)) { Content = body };
        return await http.SendAsync(request, cancellationToken);
    }
}
