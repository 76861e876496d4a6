using System.Text.Json;
using GpuTasks.Destinations;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>What an account does about its destinations: secrets of webhooks, dead letters, topics.</summary>
internal static class DestinationEndpoints
{
    private const int DefaultOverlapSeconds = 86_400;
    private const int MaxOverlapSeconds = 2_592_000;
    private const int DefaultPage = 20;

    public static void Map(IEndpointRouteBuilder v1)
    {
        v1.MapApi("GET", "/webhooks/secret", GetSecretAsync);
        v1.MapApi("POST", "/webhooks/secret:rotate", RotateSecretAsync);
        v1.MapApi("GET", "/dead-letters", ListDeadLettersAsync);
        v1.MapApi("POST", "/dead-letters:replay", ReplayAllAsync);
        v1.MapApi("GET", "/functions/{function}/tasks/{taskId}/dead-letter", GetDeadLetterAsync);
        v1.MapApi("POST", "/functions/{function}/tasks/{taskId}/dead-letter:replay", ReplayAsync);
        v1.MapApi("DELETE", "/functions/{function}/tasks/{taskId}/dead-letter", DeleteDeadLetterAsync);
        v1.MapApi("GET", "/topics", ListTopicsAsync);
        v1.MapApi("GET", "/topics/{topic}/messages", ReadTopicAsync);
        v1.MapApi("DELETE", "/topics/{topic}", DeleteTopicAsync);
    }

    private static IWebhooksGrain Webhooks(ApiCall call) => call.Grains.GetGrain<IWebhooksGrain>(call.Account);

    private static IDestinationsGrain Destinations(ApiCall call) => call.Grains.GetGrain<IDestinationsGrain>(call.Account);

    private static ITaskGrain TaskOf(ApiCall call) => call.Grains.GetGrain<ITaskGrain>(new TaskKey(call.Account, call.Function, call.TaskId).ToString());

    private static string Topic(ApiCall call) => call.RouteText("topic") is var name && DestinationTarget.IsTopicName(name)
        ? name
        : throw ApiErrors.InvalidArgument("topic: must be 1 to 128 letters, digits, '-' or '_', the first a letter.");

    /// <summary>Refuses webhooks that the operator's rules forbid, unless they are in the config already.</summary>
    public static async Task CheckAsync(ApiCall call, AsyncInvokeConfig put, AsyncInvokeConfig? before)
    {
        var faults = new Faults();
        await CheckAsync("onSuccess", put.OnSuccess, before?.OnSuccess);
        await CheckAsync("onFailure", put.OnFailure, before?.OnFailure);
        faults.Throw();

        async Task CheckAsync(string name, string? target, string? known)
        {
            if (target is not null && target != known && DestinationTarget.TryParse(target, out var parsed) && parsed.Webhook is not null
                && await call.InTimeAsync(() => Webhooks(call).Refuse(target, call.Aborted)) is { } rule)
            {
                faults.Add($"destinationConfig.{name}.destination", rule);
            }
        }
    }

    private static async Task GetSecretAsync(ApiCall call)
    {
        var secrets = await call.InTimeAsync(() => Webhooks(call).GetSecrets(call.Aborted));
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            WriteSecrets(json, secrets);
            json.WriteEndObject();
        });
    }

    private static async Task RotateSecretAsync(ApiCall call)
    {
        var secret = WebhookSignature.NewSecret();
        var overlap = DefaultOverlapSeconds;
        if (call.Body.Length > 0)
        {
            using var body = call.JsonBody();
            var faults = new Faults();
            var fields = new JsonFields(body.RootElement, faults);
            secret = fields.Text("secret", 128, WebhookSignature.IsSecret, "must be whsec_ and 24 to 64 bytes as base64") ?? secret;
            overlap = fields.Integer("overlapSeconds", 0, MaxOverlapSeconds) ?? overlap;
            faults.Throw();
        }

        var secrets = await call.InTimeAsync(() => Webhooks(call).Rotate(secret, TimeSpan.FromSeconds(overlap), CancellationToken.None));
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteString("secret", secret);
            WriteSecrets(json, secrets);
            json.WriteEndObject();
        });
    }

    private static async Task ListDeadLettersAsync(ApiCall call)
    {
        var function = FunctionFilter(call);
        var limit = call.Query.Limit(DefaultPage);
        var token = call.Query.Text("nextToken", 1_024) is { } given ? PageToken.Read(given) ?? throw BadToken() : null;
        DeadLetterPage page;
        try
        {
            page = await call.InTimeAsync(() => Destinations(call).ListDeadLetters(function, token, limit, call.Aborted));
        }
        catch (FormatException)
        {
            throw BadToken();
        }

        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("deadLetters");
            foreach (var dead in page.DeadLetters)
            {
                Write(json, dead);
            }

            json.WriteEndArray();
            if (page.NextToken is not null)
            {
                json.WriteString("nextToken", PageToken.Make(page.NextToken));
            }

            json.WriteEndObject();
        });
    }

    private static async Task ReplayAllAsync(ApiCall call)
    {
        var function = FunctionFilter(call);
        var clock = call.Http.RequestServices.GetRequiredService<TimeProvider>();
        var done = await call.InTimeAsync(Destinations(call).Replay(function, clock.GetUtcNow(), CancellationToken.None));
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteNumber("replayed", done.Replayed);
            json.WriteBoolean("isMore", done.IsMore);
            json.WriteEndObject();
        });
    }

    private static async Task GetDeadLetterAsync(ApiCall call)
    {
        var task = TaskOf(call);
        var dead = await call.InTimeAsync(() => task.GetDeadLetter(call.Aborted)) ?? throw ApiErrors.DeadLetterNotFound(call.TaskId);
        await call.JsonAsync(json => Write(json, dead));
    }

    private static async Task ReplayAsync(ApiCall call)
    {
        var task = TaskOf(call);
        if (!await call.InTimeAsync(() => task.Redeliver(CancellationToken.None)))
        {
            throw ApiErrors.DeadLetterNotFound(call.TaskId);
        }

        await call.NoContentAsync();
    }

    private static async Task DeleteDeadLetterAsync(ApiCall call)
    {
        if (!await call.InTimeAsync(TaskOf(call).DeleteDeadLetter(CancellationToken.None)))
        {
            throw ApiErrors.DeadLetterNotFound(call.TaskId);
        }

        await call.NoContentAsync();
    }

    private static async Task ListTopicsAsync(ApiCall call)
    {
        var limit = call.Query.Limit(ifAbsent: 100);
        var after = call.Query.Text("nextToken") is not { } token ? null
            : PageToken.Read(token) is { } name && DestinationTarget.IsTopicName(name) ? name
            : throw BadToken();
        var topics = await call.InTimeAsync(() => Destinations(call).ListTopics(after, limit + 1, call.Aborted));
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("topics");
            foreach (var topic in topics.Take(limit))
            {
                json.WriteStartObject();
                json.WriteString("topic", topic.Name);
                json.WriteNumber("first", topic.First);
                json.WriteNumber("last", topic.Last);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            if (topics.Count > limit)
            {
                json.WriteString("nextToken", PageToken.Make(topics[limit - 1].Name));
            }

            json.WriteEndObject();
        });
    }

    private static async Task ReadTopicAsync(ApiCall call)
    {
        var topic = Topic(call);
        var after = call.Query.Integer("after", 0, long.MaxValue) ?? 0;
        var limit = call.Query.Limit(DefaultPage);
        var messages = await call.InTimeAsync(() => Destinations(call).ReadTopic(topic, after, limit, call.Aborted));
        await call.JsonAsync(json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("messages");
            foreach (var message in messages)
            {
                json.WriteStartObject();
                json.WriteNumber("sequence", message.Sequence);
                json.WriteString("id", message.Id);
                TaskJson.WriteTime(json, "at", message.At);
                WriteMessage(json, message.Body);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteNumber("next", messages.Count > 0 ? messages[^1].Sequence : after);
            json.WriteEndObject();
        });
    }

    private static async Task DeleteTopicAsync(ApiCall call)
    {
        var topic = Topic(call);
        if (!await call.InTimeAsync(Destinations(call).DeleteTopic(topic, CancellationToken.None)))
        {
            throw ApiErrors.TopicNotFound(topic);
        }

        await call.NoContentAsync();
    }

    private static string? FunctionFilter(ApiCall call) => call.Query.Text("function", 128) is { } function ? Names.CheckFunction("function", function) : null;

    private static ApiException BadToken() => ApiErrors.InvalidArgument("nextToken: must be one that an earlier page gave.");

    private static void WriteSecrets(Utf8JsonWriter json, IReadOnlyList<WebhookSecretView> secrets)
    {
        json.WriteStartArray("secrets");
        foreach (var secret in secrets)
        {
            json.WriteStartObject();
            TaskJson.WriteTime(json, "createdAt", secret.CreatedAt);
            TaskJson.WriteTime(json, "expiresAt", secret.ExpiresAt);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void Write(Utf8JsonWriter json, DeadLetterView dead)
    {
        json.WriteStartObject();
        json.WriteString("function", dead.Key.Function);
        json.WriteString("taskId", dead.Key.TaskId);
        json.WriteString("status", dead.Status.ToString());
        json.WriteString("deliveryId", dead.DeliveryId);
        json.WriteString("destination", dead.Target);
        json.WriteNumber("attempts", dead.Attempts);
        json.WriteString("reason", dead.Fault);
        TaskJson.WriteTime(json, "endedAt", dead.EndedAt);
        TaskJson.WriteTime(json, "givenUpAt", dead.At);
        TaskJson.WriteTime(json, "keptUntil", dead.KeptUntil);
        if (dead.Message is not null)
        {
            WriteMessage(json, dead.Message);
        }

        json.WriteEndObject();
    }

    private static void WriteMessage(Utf8JsonWriter json, byte[] message)
    {
        json.WritePropertyName("message");
        json.WriteRawValue(message);
    }
}
