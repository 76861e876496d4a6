using System.Buffers;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using GpuTasks.Functions;
using GpuTasks.Gateway.Http;
using GpuTasks.Gateway.Validation;
using GpuTasks.Tasks;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>
/// Many tasks in one call: a line of JSON for each in, a line for each out in their order. Each stands alone: a line that
/// is refused or a duplicate changes nothing for the others.
/// </summary>
internal static class TaskBatchEndpoint
{
    public const int MaxTasks = 10_000;

    private const string ContentType = "application/x-ndjson; charset=utf-8";

    // Enough at once for large commits; few enough that one caller does not fill the store's queue.
    private const int ChunkTasks = 256;
    private const int ChunkBytes = 1 << 20;
    private const int ChunksAtOnce = 6;

    private static readonly JsonWriterOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    public static void Map(IEndpointRouteBuilder v1) =>
        v1.MapApi("POST", "/functions/{function}/tasks:batch", SubmitAsync, limit: (_, options) => options.MaxBatchBodyBytes, audited: false);

    private static async Task SubmitAsync(ApiCall call)
    {
        var name = call.Function;
        var qualifier = call.Qualifier;
        var (function, version) = await call.NeedRecentVersionAsync(name, qualifier);
        var config = function.AsyncConfigs.GetValueOrDefault(qualifier) ?? new AsyncInvokeConfig();
        var count = CountLines(call.Body);
        if (count is 0 or > MaxTasks)
        {
            throw ApiErrors.InvalidArgument($"body: must have 1 to {MaxTasks} lines with one JSON object each, had {count}.");
        }

        call.Http.Response.StatusCode = StatusCodes.Status202Accepted;
        call.Http.Response.ContentType = ContentType;
        var batch = new Batch(call, function, qualifier, version, config);
        var sent = new Queue<Task<List<Answer>>>();
        var at = 0;
        while (at < call.Body.Length || sent.Count > 0)
        {
            if (at < call.Body.Length && sent.Count < ChunksAtOnce)
            {
                sent.Enqueue(batch.SendAsync(batch.ReadChunk(ref at)));
                continue;
            }

            await WriteAsync(call, await sent.Dequeue());
        }
    }

    private static int CountLines(ReadOnlySpan<byte> body)
    {
        var count = 0;
        foreach (var line in body.Split((byte)'\n'))
        {
            count += IsBlank(body[line]) ? 0 : 1;
        }

        return count;
    }

    private static bool IsBlank(ReadOnlySpan<byte> line) => line.Trim(" \t\r"u8).IsEmpty;

    private static async Task WriteAsync(ApiCall call, List<Answer> answers)
    {
        var buffer = new ArrayBufferWriter<byte>(answers.Count * 64);
        await using (var writer = new Utf8JsonWriter(buffer, Json))
        {
            foreach (var answer in answers)
            {
                writer.WriteStartObject();
                writer.WriteString("id", answer.Id);
                writer.WriteString("status", answer.Refusal is not null ? "refused" : answer.Outcome is BatchOutcome.Accepted ? "accepted" : "duplicate");
                if (answer.Refusal is { } refusal)
                {
                    writer.WriteString("code", refusal.Code);
                    writer.WriteString("message", refusal.Message);
                }

                writer.WriteEndObject();
                await writer.FlushAsync(call.Aborted);
                writer.Reset();
                buffer.Write("\n"u8);
            }
        }

        await call.Http.Response.Body.WriteAsync(buffer.WrittenMemory, call.Aborted);
    }

    /// <summary>One line's way: its task, and what became of it.</summary>
    private sealed class Answer(string? id)
    {
        public string? Id { get; } = id;

        public NewTask? Task { get; init; }

        public ApiException? Refusal { get; set; }

        public BatchOutcome Outcome { get; set; }
    }

    private sealed class Batch(ApiCall call, FunctionSnapshot function, string qualifier, string? version, AsyncInvokeConfig config)
    {
        private readonly ITaskBatchGrain grain = call.Grains.Get<ITaskBatchGrain>($"{call.Account}/{function.Spec.Name}");
        private int lines;
        private volatile bool unavailable;

        public List<Answer> ReadChunk(ref int at)
        {
            var chunk = new List<Answer>(ChunkTasks);
            var bytes = 0;
            while (at < call.Body.Length && chunk.Count < ChunkTasks && bytes < ChunkBytes)
            {
                var rest = call.Body.AsSpan(at);
                var end = rest.IndexOf((byte)'\n') is var found and >= 0 ? found : rest.Length;
                at += Math.Min(end + 1, rest.Length);
                if (!IsBlank(rest[..end]))
                {
                    chunk.Add(Read(rest[..end]));
                    bytes += end;
                }
            }

            return chunk;
        }

        /// <summary>Never fails: what goes wrong is told in the lines.</summary>
        public async Task<List<Answer>> SendAsync(List<Answer> chunk)
        {
            var wanted = chunk.Where(answer => answer.Task is not null).ToList();
            if (wanted.Count == 0)
            {
                return chunk;
            }

            // A store that is full or away would make each chunk wait its patience out.
            if (unavailable)
            {
                wanted.ForEach(answer => answer.Refusal = ApiErrors.Unavailable());
                return chunk;
            }

            try
            {
                // Not given up when the caller goes away: whether a line was accepted must not depend on that.
                var outcomes = await grain.Submit(new TaskBatch([.. wanted.Select(answer => answer.Task!)]), CancellationToken.None);
                for (var i = 0; i < wanted.Count; i++)
                {
                    wanted[i].Outcome = outcomes[i];
                    wanted[i].Refusal = outcomes[i] is BatchOutcome.Unavailable ? ApiErrors.Unavailable() : null;
                }

                unavailable |= outcomes.Contains(BatchOutcome.Unavailable);
            }
            catch (Exception e)
            {
                var error = RequestShell.Translate(e);
                unavailable |= error.Status == StatusCodes.Status503ServiceUnavailable;
                wanted.ForEach(answer => answer.Refusal = error);
            }

            return chunk;
        }

        private Answer Read(ReadOnlySpan<byte> line)
        {
            // Of its own, since it is also what tells a repeat of the same line from another of the same id.
            var requestId = string.Create(CultureInfo.InvariantCulture, $"{call.RequestId}-{++lines:00000}");
            string? id = null;
            try
            {
                var parsed = BatchLine.Parse(line, call.Options.MaxAsyncPayloadBytes, out id);
                if (id is not null && !config.TaskMode)
                {
                    throw ApiErrors.InvalidArgument(
                        $"id: needs task mode, which is off for function '{function.Spec.Name}'; put its async invoke config with asyncTask true, or leave the id out.");
                }

                var taskId = id ?? requestId;
                return new Answer(taskId)
                {
                    Task = new NewTask(taskId, new TaskSubmission
                    {
                        RequestId = requestId,
                        Qualifier = qualifier,
                        Version = version,
                        Payload = parsed.Payload,
                        Recorded = config.TaskMode,
                        Priority = parsed.Priority,
                        MaxRetryAttempts = config.MaxRetryAttempts,
                        MaxEventAge = TimeSpan.FromSeconds(config.MaxEventAgeSeconds),
                        OnSuccess = config.OnSuccess,
                        OnFailure = config.OnFailure,
                    }),
                };
            }
            catch (ApiException refusal)
            {
                return new Answer(id) { Refusal = refusal };
            }
        }
    }
}
