using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using GpuTasks.Tasks;

namespace GpuTasks.Destinations;

/// <summary>What a destination is told of a task that ended (contract 3.1).</summary>
public static class DestinationMessage
{
    /// <summary>Longest part of the function's answer that is told; the task itself keeps more.</summary>
    public const int MaxResponseBytes = 128 * 1024;

    // It stands in no page of HTML, and a payload is mostly JSON itself, whose quotes would each become six bytes.
    private static readonly DestinationJson Compact = new(new JsonSerializerOptions(DestinationJson.Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });

    private static readonly UTF8Encoding Strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <summary>The message as UTF-8 JSON.</summary>
    /// <param name="state">An ended task.</param>
    /// <param name="region">Region, for the source's ARN.</param>
    public static byte[] Of(TaskState state, string region)
    {
        var (key, submission) = (state.Key!.Value, state.Submission!);
        var succeeded = state.Status is GpuTaskStatus.Succeeded;
        var error = succeeded ? "" : state.Status is GpuTaskStatus.Failed ? (state.Outcome ?? RunOutcome.FunctionError).ToString() : state.Status.ToString();
        var response = state.Result ?? [];
        return JsonSerializer.SerializeToUtf8Bytes(
            new Body(
                state.EndedAt!.Value.ToUnixTimeMilliseconds(),
                new RequestContext(submission.RequestId, $"acs:fc:{region}:{key.Account}:functions/{key.Function}", error, state.Attempt, key.TaskId),
                Text(submission.Payload),
                new ResponseContext(200, error, state.ResultTruncated || response.Length > MaxResponseBytes),
                Text(TaskViews.Cut(response, MaxResponseBytes))),
            Compact.Body);
    }

    /// <summary>
    /// A delivery's id as its target sees it: <c>webhook-id</c>, the id of the task that it submits to a function, or of a message in a topic.
    /// The same for each try, so that a repeat is recognised.
    /// </summary>
    public static string IdOf(string deliveryId) => "d-" + Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(deliveryId)))[..32];

    // Bytes that are no text are told as base64, as the API shows them.
    private static string Text(byte[] bytes)
    {
        try
        {
            return Strict.GetString(bytes);
        }
        catch (DecoderFallbackException)
        {
            return Convert.ToBase64String(bytes);
        }
    }

    internal sealed record Body(long Timestamp, RequestContext RequestContext, string RequestPayload, ResponseContext ResponseContext, string ResponsePayload);

    internal sealed record RequestContext(string RequestId, string FunctionArn, string Condition, int ApproximateInvokeCount, string TaskId);

    internal sealed record ResponseContext(
        int StatusCode, string FunctionError, [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] bool Truncated);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(DestinationMessage.Body))]
internal sealed partial class DestinationJson : JsonSerializerContext;
